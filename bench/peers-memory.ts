import { fork } from "node:child_process";
import type { Engine } from "../src/engine";
import { jaxStack } from "./peers-memory/jax";
import { peakOfBuffers } from "./peers-memory/meter";
import { safetapeStack } from "./peers-memory/safetape";
import type { Stack } from "./peers-memory/stack";
import { LAYERS } from "./peers-memory/stack";
import { tfjsStack } from "./peers-memory/tfjs";
import { main } from "./support/main";
import { report } from "./support/results";

const ENGINES: Record<string, (live: number) => Promise<Stack>> = {
  safetape: safetapeStack,
  "TensorFlow.js": tfjsStack,
  "jax-js, eager": (live) => jaxStack(live, false),
  "jax-js, jit": (live) => jaxStack(live, true),
};

const [OURS, ...PEERS] = Object.keys(ENGINES) as [string, ...string[]];
const LIVE = [LAYERS, 4, 1];
const STEPS = 4;
const TOLERANCE = 1e-3;
const MEGABYTE = 1e6;

/** At most half of the best peer with all adapters live, and 6 MB with the top one alone. */
const TARGETS = { ofBestPeer: 0.5, topAlone: 6 * MEGABYTE };

interface Measured {
  /** At the start, in a process of their own. */
  readonly gradients: readonly Float32Array[];
  readonly losses: readonly number[];
  /** Largest sum of all buffers at one time, those in pools included. */
  readonly peakBytes: number;
}

/** Peak bytes of the buffers of a LoRA stack over four steps: this engine beside its peers, each in its own process. */
export async function peersMemory(engine: Engine): Promise<void> {
  const rows: Record<string, unknown>[] = [];
  const missed: string[] = [];
  for (const live of LIVE) {
    const found = new Map<string, Measured>();
    for (const name of Object.keys(ENGINES)) found.set(name, await measure(name, live));
    const ours = found.get(OURS)!;
    for (const name of PEERS) compare(ours, found.get(name)!, `${name}, ${live} live`);
    const best = Math.min(...PEERS.map((name) => found.get(name)!.peakBytes));
    const megabytes = [...found].map(([name, { peakBytes }]) => [`${name}, MB`, round(peakBytes / MEGABYTE)] as const);
    rows.push({ live, ...Object.fromEntries(megabytes), "ours / best peer": round(ours.peakBytes / best) });
    if (live === LAYERS && ours.peakBytes > TARGETS.ofBestPeer * best) missed.push("half of the best peer, all live");
    if (live === 1 && ours.peakBytes > TARGETS.topAlone) missed.push("6 MB, the top adapter alone");
  }
  await report(engine, "peers-memory", rows);
  if (missed.length === 0) return;
  console.error(`Missed: ${missed.join("; ")}.`);
  process.exitCode = 1;
}

const round = (value: number): number => Number(value.toFixed(2));

/** A peer that computes something else is no peer. */
function compare(ours: Measured, theirs: Measured, what: string): void {
  checkClose(ours.losses, theirs.losses, `The losses of ${what}`);
  ours.gradients.forEach((gradient, i) =>
    checkClose(gradient, theirs.gradients[i] ?? [], `The values of gradient ${i} of ${what}`),
  );
}

/** Compares by norms: single elements may be next to 0. */
function checkClose(ours: ArrayLike<number>, theirs: ArrayLike<number>, what: string): void {
  const apart = Array.from(ours, (value, i) => value - (theirs[i] ?? NaN));
  const error = Math.hypot(...apart) / Math.hypot(...Array.from(ours));
  if (!(error <= TOLERANCE)) throw new Error(`${what} differ: relative error ${error}.`);
}

/** Asks two processes, so that reading gradients is not metered and no pool knows of another engine's. */
async function measure(name: string, live: number): Promise<Measured> {
  return {
    ...(await ask<{ gradients: Float32Array[] }>("gradients", name, live)),
    ...(await ask<Steps>("steps", name, live)),
  };
}

type Steps = Omit<Measured, "gradients">;

function ask<T>(...question: [what: string, name: string, live: number]): Promise<T> {
  return new Promise((resolve, reject) => {
    const child = fork(process.argv[1]!, question.map(String), { serialization: "advanced" });
    let answer: T | undefined;
    child.on("message", (message) => (answer = message as T));
    child.on("error", reject);
    child.on("exit", (code) => {
      if (code === 0 && answer) resolve(answer);
      else reject(new Error(`The process that measures ${question.join(", ")} ended with ${code} and no figures.`));
    });
  });
}

async function answer([what, name = "", live]: readonly string[]): Promise<unknown> {
  const make = ENGINES[name]!;
  if (what === "gradients") return { gradients: await (await make(Number(live))).gradients() };
  const peak = await peakOfBuffers();
  const stack = await make(Number(live));
  const losses: number[] = [];
  for (let step = 0; step < STEPS; step++) losses.push(await stack.step());
  return { losses, peakBytes: peak() } satisfies Steps;
}

// Engines keep the process open; the answer was handed over before it ends.
if (process.send) process.send(await answer(process.argv.slice(2)), () => process.exit(0));
else await main("peers-memory", peersMemory);
