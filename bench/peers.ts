import type { Engine } from "../src/engine";
import { napping } from "../src/node/napping";
import { attentionWorkloads } from "./peers/attention";
import { gpujs } from "./peers/gpujs";
import { jax } from "./peers/jax";
import { measure } from "./peers/measure";
import type { Figure } from "./peers/measure";
import { productWorkloads } from "./peers/products";
import { rowWorkloads } from "./peers/rows";
import { safetape } from "./peers/safetape";
import { stepWorkloads } from "./peers/step";
import { tfjs } from "./peers/tfjs";
import { main } from "./support/main";
import { round, writeResults } from "./support/results";

/**
 * This engine beside TensorFlow.js, jax-js and gpu.js, in one process on one adapter, run by run in turn. What is
 * computed from lies on the GPU beforehand, results stay there; each run ends when the engine's own queue is done, and is
 * awaited as this engine awaits its own: with naps, since asking takes a core from a software adapter.
 * Arguments choose workloads by parts of their names.
 */
export async function peers(engine: Engine): Promise<void> {
  const engines = [safetape(engine), await tfjs(), await jax(), await gpujs("webgpu"), await gpujs("cpu")];
  const families = [productWorkloads(), attentionWorkloads(), rowWorkloads(), await stepWorkloads(engine)].flat();
  const wanted = process.argv.slice(2);
  const results: Record<string, unknown>[] = [];
  const table: Record<string, unknown>[] = [];
  for (const make of families) {
    const workload = make();
    if (wanted.length > 0 && !wanted.some((part) => workload.name.includes(part))) continue;
    const figures = await measure(engines, workload, (work) => napping(work, engine.info));
    const verdict = judge(figures, workload.target);
    results.push({ workload: workload.name, flops: workload.flops, engines: figures, ...verdict });
    table.push({ workload: workload.name, ...shown(figures), ...verdict });
    console.log(`${workload.name}: ${said(figures)}`);
  }
  console.log(`\npeers on ${engine.info.description || engine.info.device}, milliseconds`);
  console.table(table);
  const sync = Object.fromEntries(engines.map((one) => [one.name, one.sync]));
  console.log("A run's end is awaited by:", sync, "In the training step every engine reads its loss.");
  if (wanted.length === 0) await writeResults(engine, "peers", { sync, workloads: results });
}

type Figures = Readonly<Record<string, Figure>>;

/** How many times faster than the best peer, and whether that is what was aimed at. */
function judge(figures: Figures, target: number) {
  const { safetape: ours, ...others } = figures;
  const best = Math.min(...Object.values(others).map((figure) => ("ms" in figure ? figure.ms : Infinity)));
  const ratio = ours && "ms" in ours ? best / ours.ms : 0;
  return { "best peer / ours": Number.isFinite(ratio) ? round(ratio) : "no peer", target, met: ratio >= target };
}

const shown = (figures: Figures): Record<string, number | string> =>
  Object.fromEntries(Object.entries(figures).map(([name, figure]) => [name, "ms" in figure ? figure.ms : "-"]));

const said = (figures: Figures): string =>
  Object.entries(figures)
    .map(
      ([name, one]) => `${name} ${"ms" in one ? `${one.ms} ms (${one.fastest} to ${one.slowest})` : `- ${one.reason}`}`,
    )
    .join("; ");

await main("peers", peers);
