import { Worker } from "node:worker_threads";

/** In a thread of its own, since what it waits for may be a loop that never ends. */
const PROGRAM = `
const { workerData: { words, names, limit, pid } } = require("node:worker_threads");
let last = -1, since = Date.now();
setInterval(() => {
  const now = Atomics.load(words, 1);
  if (now !== last) [last, since] = [now, Date.now()];
  else if (now >= 0 && Date.now() - since > limit) {
    require("node:fs").writeSync(2, "input " + now + " of " + names[Atomics.load(words, 0)] + " hangs\\n");
    process.kill(pid, "SIGKILL");
  }
}, 500);
`;

export interface Watchdog {
  /** The n-th input of the i-th reader begins; -1 where none is under way. */
  begin(reader: number, input: number): void;
  stop(): Promise<void>;
}

/** Ends this process, naming the input, where one takes longer than `limit` milliseconds. */
export function watchdog(names: readonly string[], limit = 60_000): Watchdog {
  const words = new Int32Array(new SharedArrayBuffer(8)).fill(-1);
  const worker = new Worker(PROGRAM, { eval: true, workerData: { words, names, limit, pid: process.pid } });
  worker.unref();
  return {
    begin(reader, input) {
      Atomics.store(words, 0, reader);
      Atomics.store(words, 1, input);
    },
    stop: async () => {
      await worker.terminate();
    },
  };
}
