/** A unit of displayed numbers. */
export interface Unit {
  readonly name: string;
  readonly size: number;
}

const BYTE_UNITS: readonly Unit[] = [
  { name: "GB", size: 1e9 },
  { name: "MB", size: 1e6 },
  { name: "kB", size: 1e3 },
];
const FLOP_UNITS: readonly Unit[] = [
  { name: "PFLOP", size: 1e15 },
  { name: "TFLOP", size: 1e12 },
  { name: "GFLOP", size: 1e9 },
  { name: "MFLOP", size: 1e6 },
];

/** The largest unit that is not larger than the value, or the smallest unit. */
const unitOf = (units: readonly Unit[], value: number): Unit =>
  units.find(({ size }) => Math.abs(value) >= size) ?? units.at(-1)!;

/** The unit in which to display values of at most this many bytes. */
export const byteUnit = (largest: number): Unit => unitOf(BYTE_UNITS, largest);

const withUnit = (value: number, { name, size }: Unit): string => `${significant(value / size)} ${name}`;

/** Bytes with a unit (a power of 1000): 1.5 MB. */
export const showBytes = (bytes: number): string => withUnit(bytes, unitOf(BYTE_UNITS, bytes));
/** A count as a whole number with commas: 124,704. */
export const showCount = (count: number): string => Math.round(count).toLocaleString("en-US");
/** FLOPs with a unit: 1.5 TFLOP. */
export const showFlops = (flops: number): string => withUnit(flops, unitOf(FLOP_UNITS, flops));

/** A number with three significant digits; from 1000 on rounded to a whole number. */
export function significant(value: number): string {
  if (value === 0 || !Number.isFinite(value)) return String(value);
  if (Math.abs(value) >= 1000) return String(Math.round(value));
  return Math.abs(value) < 1e-3 ? Number(value.toPrecision(3)).toExponential() : String(Number(value.toPrecision(3)));
}

/** Seconds as minutes and seconds, or with hours: 1:05, 2:01:05. */
export function clock(seconds: number): string {
  const whole = Math.max(0, Math.round(seconds));
  const [hours, minutes] = [Math.floor(whole / 3600), Math.floor((whole % 3600) / 60)];
  const twoDigits = (value: number): string => String(value).padStart(2, "0");
  const tail = twoDigits(whole % 60);
  return hours > 0 ? `${hours}:${twoDigits(minutes)}:${tail}` : `${minutes}:${tail}`;
}

/** A duration with a unit: 20 ms, 1.5 s, 1:05 min, 2:01:05 h. */
export function showSeconds(seconds: number): string {
  if (seconds < 1) return `${significant(seconds * 1000)} ms`;
  if (seconds < 60) return `${significant(seconds)} s`;
  return `${clock(seconds)} ${Math.round(seconds) >= 3600 ? "h" : "min"}`;
}
