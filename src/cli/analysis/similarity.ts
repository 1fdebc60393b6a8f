import { layerSimilarity } from "../../analysis/similarity";
import { similarityFigure } from "../../report/analysis/similarity";
import { Trainer } from "../../train/trainer";
import { countOption } from "../options";
import type { Given } from "../options";
import { saveResults } from "./results";
import { openOut, Workplace } from "./workplace";

/** `safetape analyze similarity`: trains, and compares layers' outputs with the original model's and the final one's. */
export async function similarityCommand(given: Given, print: (line: string) => void): Promise<void> {
  using place = await Workplace.open(given);
  const { model, training, engine } = place;
  const out = await openOut(given);
  using trainer = await Trainer.create({ ...training, model, adapter: place.adapter(), data: place.trainingData() });
  const { totalSteps } = trainer.progress;
  const every =
    given["snapshotEvery"] === undefined
      ? Math.max(1, Math.round(totalSteps / 24))
      : countOption(given, "snapshotEvery", "--snapshot-every");
  const points = await place.watched("similarity", (onProgress) => layerSimilarity(trainer, { every, onProgress }));
  const rows = points.flatMap(({ step, original, final }) =>
    original.map((cka, layer) => ({ step, layer, ckaOriginal: cka, ckaFinal: final[layer] })),
  );
  const figure = similarityFigure(points);
  await saveResults(out, "similarity", given, { record: { points }, rows, figure, gpu: engine.info }, print);
}
