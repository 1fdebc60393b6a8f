/** One dispatch of a run, with its time. */
export interface Dispatch {
  readonly phase: "forward" | "recompute" | "backward" | "update";
  /** Name of the op, such as `lora_linear`. */
  readonly op: string;
  /** The part of the model that it computes, such as `bert.encoder.layer.0.attention.self.query`. */
  readonly label: string;
  /** File of the kernel in `kernels/`, without its extension. */
  readonly kernel: string;
  readonly entry: string;
  /** Name of the variant that ran, or "portable". */
  readonly variant: string;
  /** Shape of the op's first output. */
  readonly shape: readonly number[];
  readonly workgroups: number;
  /** Launches of the plan whose work it did. */
  readonly launches: number;
  readonly flops: number;
  /** Bytes that are bound for reading. */
  readonly bytesRead: number;
  /** Bytes that are bound for writing, of which kernels that add to them read as many. */
  readonly bytesWritten: number;
  readonly ms: number;
}

/** What a run dispatched, in order. As text, it is a table with a line for each dispatch and totals by op and phase. */
export interface Trace {
  readonly dispatches: readonly Dispatch[];
  /** Whose clock: timestamps of the device, or the host's, which adds the time of a submission to each dispatch. */
  readonly clock: "device" | "host";
  /** Sum of the times of all dispatches. */
  readonly ms: number;
  toString(): string;
  /** The trace in the format that chrome://tracing and Perfetto open. */
  toChromeTrace(): ChromeTrace;
}

/** The Trace Event Format of Chrome: complete events, in microseconds. */
export interface ChromeTrace {
  readonly displayTimeUnit: "ms";
  readonly traceEvents: readonly ChromeEvent[];
}

export interface ChromeEvent {
  readonly name: string;
  readonly cat: string;
  readonly ph: "X";
  readonly ts: number;
  readonly dur: number;
  readonly pid: 1;
  readonly tid: number;
  readonly args: Readonly<Record<string, unknown>>;
}

const PHASES = ["forward", "recompute", "backward", "update"] as const;

/** A trace of some dispatches. */
export function traceOf(dispatches: readonly Dispatch[], clock: Trace["clock"]): Trace {
  return {
    dispatches,
    clock,
    ms: sumOf(dispatches, ({ ms }) => ms),
    toString: () => tableOf(dispatches, clock),
    toChromeTrace: () => ({ displayTimeUnit: "ms", traceEvents: eventsOf(dispatches) }),
  };
}

const sumOf = (dispatches: readonly Dispatch[], value: (dispatch: Dispatch) => number): number =>
  dispatches.reduce((sum, dispatch) => sum + value(dispatch), 0);

/** One event after the other: gaps between plans, in which the host works, are left out. */
function eventsOf(dispatches: readonly Dispatch[]): ChromeEvent[] {
  let now = 0;
  return dispatches.map(({ op, label, phase, ms, ...args }) => {
    const ts = now;
    now += ms * 1000;
    const tid = 1 + PHASES.indexOf(phase);
    return {
      name: `${op} ${label}`,
      cat: phase,
      ph: "X",
      ts,
      dur: ms * 1000,
      pid: 1,
      tid,
      args: { op, label, ...args },
    };
  });
}

const rate = (amount: number, ms: number): string => (ms > 0 ? (amount / ms / 1e6).toFixed(1) : "-").padStart(8);

function lineOf(dispatches: readonly Dispatch[]): string {
  const ms = sumOf(dispatches, (each) => each.ms);
  const bytes = sumOf(dispatches, ({ bytesRead, bytesWritten }) => bytesRead + bytesWritten);
  return `${ms.toFixed(3).padStart(10)} ${rate(
    sumOf(dispatches, ({ flops }) => flops),
    ms,
  )} ${rate(bytes, ms)}`;
}

function tableOf(dispatches: readonly Dispatch[], clock: Trace["clock"]): string {
  const head = `${"ms".padStart(10)} ${"GFLOP/s".padStart(8)} ${"GB/s".padStart(8)}`;
  const lines = dispatches.map((dispatch) => {
    const { phase, op, entry, variant, shape, workgroups, bytesRead, bytesWritten, label } = dispatch;
    const what = `${phase} ${op}.${entry} (${variant}) [${shape.join(", ")}] x ${workgroups}`;
    return `${lineOf([dispatch])}  ${what}, ${bytesRead} B read, ${bytesWritten} B written, ${label}`;
  });
  const groups = (name: (dispatch: Dispatch) => string): string[] => {
    const byName = new Map<string, Dispatch[]>();
    for (const each of dispatches) byName.set(name(each), [...(byName.get(name(each)) ?? []), each]);
    return [...byName]
      .sort(([, a], [, b]) => sumOf(b, ({ ms }) => ms) - sumOf(a, ({ ms }) => ms))
      .map(([key, group]) => `${lineOf(group)}  ${key}, ${group.length} dispatches`);
  };
  const source = clock === "device" ? "timestamps of the device" : "the host's clock, submission included";
  return [
    head,
    ...lines,
    "By op:",
    ...groups(({ op }) => op),
    "By phase:",
    ...groups(({ phase }) => phase),
    `${lineOf(dispatches)}  in all, ${dispatches.length} dispatches, by ${source}`,
  ].join("\n");
}
