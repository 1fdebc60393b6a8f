import { layerSimilarity } from "../../analysis/similarity";
import { similarityFigure } from "../../report/analysis/similarity";
import { Trainer } from "../../train/trainer";
import { ANALYZE } from "../flags";
import { readOptions } from "../options";
import type { Print, RawOptions } from "../options";
import { checkResults, saveResults } from "./results";
import { AnalysisSession } from "./session";

/** Snapshots of a run if `--snapshot-every` is not given. */
const SNAPSHOTS = 24;

/** `safetape analyze similarity`: trains, and compares layers' outputs with those of the original and the final model. */
export async function similarityCommand(raw: RawOptions, print: Print): Promise<void> {
  const options = readOptions(ANALYZE, raw);
  await checkResults(options.out, "similarity", raw);
  using session = await AnalysisSession.open(options);
  const { model, training, engine, out } = session;
  using trainer = await Trainer.create({
    ...training,
    model,
    adapter: session.adapter(),
    data: session.trainingData(),
  });
  const every = options.snapshotEvery ?? Math.max(1, Math.round(trainer.progress.totalSteps / SNAPSHOTS));
  const points = await session.progress("similarity", (onProgress) => layerSimilarity(trainer, { every, onProgress }));
  const rows = points.flatMap(({ step, original, final }) =>
    original.map((cka, layer) => ({ step, layer, ckaOriginal: cka, ckaFinal: final[layer] })),
  );
  const figure = similarityFigure(points);
  await saveResults(out, "similarity", raw, { record: { points }, rows, figure, gpu: engine.info }, print);
}
