import { fork } from "node:child_process";
import type { Engine } from "../src/engine";
import { jaxStack } from "./peers-memory/jax";
import { safetapeStack } from "./peers-memory/safetape";
import type { Stack } from "./peers-memory/stack";
import { LAYERS } from "./peers-memory/stack";
import { tfjsStack } from "./peers-memory/tfjs";
import { actAsBrowser } from "./support/browser";
import { main } from "./support/main";
import { report } from "./support/results";

const ENGINES: Record<string, (live: number) => Promise<Stack>> = {
  safetape: safetapeStack,
  "TensorFlow.js": tfjsStack,
  "jax-js, eager": (live) => jaxStack(live, false),
  "jax-js, jit": (live) => jaxStack(live, true),
};

const [OURS = "", ...PEERS] = Object.keys(ENGINES);
const LIVE = [LAYERS, 4, 1];
const STEPS = 4;
const TOLERANCE = 1e-3;
const MEGABYTE = 1e6;

/** Upper limits: half of the best peer's bytes with all adapters live, and 6 MB with only the top adapter live. */
const TARGETS = { ofBestPeer: 0.5, topAlone: 6 * MEGABYTE };

/** Gradients and losses of the stack on one engine, and its memory. */
interface Measurement {
  /** Gradients at the start, computed in a separate process. */
  readonly gradients: readonly Float32Array[];
  readonly losses: readonly number[];
  /** Largest sum of the sizes of all buffers, including those in pools. */
  readonly peakBytes: number;
}

/** Compares the peak buffer bytes of a LoRA stack over four steps in this engine and its peers, each in its own process. */
export async function peersMemory(engine: Engine): Promise<void> {
  const rows: Record<string, unknown>[] = [];
  const missed: string[] = [];
  for (const live of LIVE) {
    const measurements = new Map<string, Measurement>();
    for (const name of Object.keys(ENGINES)) measurements.set(name, await measure(name, live));
    const ours = measurements.get(OURS)!;
    for (const name of PEERS) checkSame(ours, measurements.get(name)!, `${name}, ${live} live`);
    const best = Math.min(...PEERS.map((name) => measurements.get(name)!.peakBytes));
    const megabytes = [...measurements].map(
      ([name, { peakBytes }]) => [`${name}, MB`, round(peakBytes / MEGABYTE)] as const,
    );
    rows.push({ live, ...Object.fromEntries(megabytes), "ours / best peer": round(ours.peakBytes / best) });
    if (live === LAYERS && ours.peakBytes > TARGETS.ofBestPeer * best)
      missed.push("half of the best peer's bytes, all live");
    if (live === 1 && ours.peakBytes > TARGETS.topAlone) missed.push("6 MB, only the top adapter live");
  }
  await report(engine, "peers-memory", rows);
  if (missed.length === 0) return;
  console.error(`Missed: ${missed.join("; ")}.`);
  process.exitCode = 1;
}

const round = (value: number): number => Number(value.toFixed(2));

/** Throws if a peer computes something else: then its memory cannot be compared. */
function checkSame(ours: Measurement, theirs: Measurement, what: string): void {
  checkClose(ours.losses, theirs.losses, `The losses of ${what}`);
  ours.gradients.forEach((gradient, i) =>
    checkClose(gradient, theirs.gradients[i] ?? [], `The values of gradient ${i} of ${what}`),
  );
}

/** Compares by norms, since single elements may be close to 0. */
function checkClose(ours: ArrayLike<number>, theirs: ArrayLike<number>, what: string): void {
  const differences = Array.from(ours, (value, i) => value - (theirs[i] ?? NaN));
  const error = Math.hypot(...differences) / Math.hypot(...Array.from(ours));
  if (!(error <= TOLERANCE)) throw new Error(`${what} differ: relative error ${error}.`);
}

/** Measures in two new processes, so that the meter does not count the reading of gradients or another engine's buffers. */
async function measure(name: string, live: number): Promise<Measurement> {
  const { gradients } = await runChild<Gradients>("gradients", name, live);
  const { losses, peakBytes } = await runChild<Steps>("steps", name, live);
  return { gradients, losses, peakBytes };
}

type Gradients = Pick<Measurement, "gradients">;
type Steps = Omit<Measurement, "gradients">;

function runChild<T extends Gradients | Steps>(...args: [task: string, name: string, live: number]): Promise<T> {
  return new Promise((resolve, reject) => {
    const child = fork(process.argv[1]!, args.map(String), { serialization: "advanced" });
    let result: T | undefined;
    // The child sends the result of `runTask`.
    child.on("message", (message) => (result = message as T));
    child.on("error", reject);
    child.on("exit", (code) => {
      if (code === 0 && result) resolve(result);
      else reject(new Error(`The process that measures ${args.join(", ")} exited with ${code} and without a result.`));
    });
  });
}

async function runTask([task, name = "", live]: readonly string[]): Promise<Gradients | Steps> {
  const make = ENGINES[name]!;
  if (task === "gradients") return { gradients: await (await make(Number(live))).gradients() };
  const peak = await meterBuffers();
  const stack = await make(Number(live));
  const losses: number[] = [];
  for (let step = 0; step < STEPS; step++) losses.push(await stack.step());
  return { losses, peakBytes: peak() };
}

/** Stands in for GPUCanvasContext, which Node lacks: the meter wraps these methods. */
class CanvasContextStub {
  configure(): void {}
  unconfigure(): void {}
  getCurrentTexture(): void {}
}

/** Starts to count all WebGPU buffers of the process. Returns a function that gives their peak bytes so far. */
async function meterBuffers(): Promise<() => number> {
  actAsBrowser();
  Object.assign(globalThis, { GPUCanvasContext: CanvasContextStub });
  const { getWebGPUMemoryUsage } = await import("webgpu-memory");
  return () => getWebGPUMemoryUsage().memory.maxTotal;
}

// Engines keep the process alive, so it exits once the result has been sent.
if (process.send) process.send(await runTask(process.argv.slice(2)), () => process.exit(0));
else await main("peers-memory", peersMemory);
