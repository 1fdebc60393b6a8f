import { Worker } from "node:worker_threads";

/** Runs in a worker thread, since the main thread may be in a loop that never ends. */
const PROGRAM = `
const { workerData: { state, names, limit, pid } } = require("node:worker_threads");
let current = -1, since = Date.now();
setInterval(() => {
  const input = Atomics.load(state, 1);
  if (input !== current) [current, since] = [input, Date.now()];
  else if (input >= 0 && Date.now() - since > limit) {
    require("node:fs").writeSync(2, "input " + input + " of " + names[Atomics.load(state, 0)] + " hangs\\n");
    process.kill(pid, "SIGKILL");
  }
}, 500);
`;

export interface Watchdog {
  /** Call this before a reader reads an input; both are given by index. An input of -1 means that no read is in progress. */
  begin(reader: number, input: number): void;
  stop(): Promise<void>;
}

/** Starts a thread that names an input and ends this process if the input takes longer than `limit` milliseconds. */
export function startWatchdog(names: readonly string[], limit = 60_000): Watchdog {
  const state = new Int32Array(new SharedArrayBuffer(8)).fill(-1);
  const worker = new Worker(PROGRAM, { eval: true, workerData: { state, names, limit, pid: process.pid } });
  worker.unref();
  return {
    begin(reader, input) {
      Atomics.store(state, 0, reader);
      Atomics.store(state, 1, input);
    },
    stop: async () => {
      await worker.terminate();
    },
  };
}
