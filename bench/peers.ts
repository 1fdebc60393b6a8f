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
import { hasTimeFor } from "./support/deadline";
import { main } from "./support/main";
import { round, writeResults } from "./support/results";

/**
 * Compares this engine with TensorFlow.js, jax-js and gpu.js in alternating runs, in one process on one adapter. Operands
 * are on the GPU before a run, and results stay there. A run ends when the engine's own queue is empty. All engines wait for
 * that as this one does, with naps: polling would take a core from a software adapter.
 * @param nameParts select the workloads whose names contain one of them. Default: all workloads, whose figures are written.
 */
export async function peers(engine: Engine, nameParts: readonly string[] = []): Promise<void> {
  const engines = [safetape(engine), await tfjs(), await jax(), await gpujs("webgpu"), await gpujs("cpu")];
  const workloads = [productWorkloads(), attentionWorkloads(), rowWorkloads(), await stepWorkloads(engine)].flat();
  const results: Record<string, unknown>[] = [];
  const table: Record<string, unknown>[] = [];
  const isComplete = nameParts.length === 0;
  const sync = Object.fromEntries(engines.map(({ name, sync: method }) => [name, method]));
  for (const [i, make] of workloads.entries()) {
    const workload = make();
    if (nameParts.length > 0 && !nameParts.some((part) => workload.name.includes(part))) continue;
    if (!hasTimeFor(workload.name)) continue;
    const rest = workloads.length - i - 1;
    const notReached = [workload.name, ...(rest > 0 ? [`${rest} workloads after it`] : [])];
    if (isComplete) await writeResults(engine, "peers", { sync, workloads: results }, notReached);
    const figures = await measure(engines, workload, (work) => napping(work, engine.info));
    const verdict = compareWithTarget(figures, workload.target);
    results.push({ workload: workload.name, flops: workload.flops, engines: figures, ...verdict });
    table.push({ workload: workload.name, ...milliseconds(figures), ...verdict });
    console.log(`${workload.name}: ${describe(figures)}`);
  }
  console.log(`\npeers on ${engine.info.description || engine.info.device}, milliseconds`);
  console.table(table);
  console.log("How each engine waits for the end of a run:", sync, "In the training step every engine reads its loss.");
  if (isComplete) await writeResults(engine, "peers", { sync, workloads: results });
}

type Figures = Readonly<Record<string, Figure>>;

/** The speed relative to the fastest peer, and whether it reaches the target. */
function compareWithTarget(figures: Figures, target: number) {
  const { safetape: ours, ...others } = figures;
  const fastestPeer = Math.min(...Object.values(others).map((figure) => ("ms" in figure ? figure.ms : Infinity)));
  const ratio = ours && "ms" in ours ? fastestPeer / ours.ms : 0;
  return { "best peer / ours": Number.isFinite(ratio) ? round(ratio) : "no peer", target, met: ratio >= target };
}

const milliseconds = (figures: Figures): Record<string, number | string> =>
  Object.fromEntries(Object.entries(figures).map(([name, figure]) => [name, "ms" in figure ? figure.ms : "-"]));

const describe = (figures: Figures): string =>
  Object.entries(figures)
    .map(
      ([name, figure]) =>
        `${name} ${"ms" in figure ? `${figure.ms} ms (${figure.fastest} to ${figure.slowest})` : `- ${figure.reason}`}`,
    )
    .join("; ");

await main("peers", (engine) => peers(engine, process.argv.slice(2)));
