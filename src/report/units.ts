/** A unit that numbers are shown in. */
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

const unitOf = (units: readonly Unit[], most: number): Unit =>
  units.find(({ size }) => Math.abs(most) >= size) ?? units.at(-1)!;

/** The unit in which so many bytes are a small number. */
export const byteUnit = (most: number): Unit => unitOf(BYTE_UNITS, most);

const shown = (value: number, { name, size }: Unit): string => `${significant(value / size)} ${name}`;

/** Bytes as people read them: powers of 1000. */
export const showBytes = (bytes: number): string => shown(bytes, unitOf(BYTE_UNITS, bytes));
export const showFlops = (flops: number): string => shown(flops, unitOf(FLOP_UNITS, flops));

/** A number to three significant digits, whole where it is large. */
export function significant(value: number): string {
  if (value === 0 || !Number.isFinite(value)) return String(value);
  if (Math.abs(value) >= 1000) return String(Math.round(value));
  return Math.abs(value) < 1e-3 ? Number(value.toPrecision(3)).toExponential() : String(Number(value.toPrecision(3)));
}

/** Seconds as people read them. */
export function showSeconds(seconds: number): string {
  if (seconds < 1) return `${significant(seconds * 1000)} ms`;
  if (seconds < 60) return `${significant(seconds)} s`;
  const whole = Math.round(seconds);
  const [hours, minutes] = [Math.floor(whole / 3600), Math.floor((whole % 3600) / 60)];
  const two = (value: number): string => String(value).padStart(2, "0");
  return hours > 0 ? `${hours}:${two(minutes)}:${two(whole % 60)} h` : `${minutes}:${two(whole % 60)} min`;
}
