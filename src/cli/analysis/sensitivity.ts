import { compareSensitivities } from "../../analysis/sensitivity";
import { sensitivityFigure } from "../../report/analysis/sensitivity";
import { ANALYZE, policyFrom } from "../flags";
import { readOptions, UsageError } from "../options";
import type { Print, RawOptions } from "../options";
import { metricWords } from "../view/run-view";
import { checkResults, saveResults } from "./results";
import { AnalysisSession } from "./session";

/** `safetape analyze sensitivity`: trains once for every sensitivity by which AFLoRA may freeze, and compares when. */
export async function sensitivityCommand(rawWithoutPolicy: RawOptions, print: Print): Promise<void> {
  const raw = { freeze: "aflora", ...rawWithoutPolicy };
  const options = readOptions(ANALYZE, raw);
  const { freeze = { policy: "aflora" } } = options;
  if (freeze.policy !== "aflora") {
    throw new UsageError(
      `--freeze is ${freeze.policy}, which does not freeze by sensitivity.`,
      `Give aflora, or JSON such as {"policy": "aflora", "simultaneous": true}.`,
    );
  }
  await checkResults(options.out, "sensitivity", raw);
  using session = await AnalysisSession.open(options);
  const { model, training, engine, out, screen } = session;
  const runs = await session.progress("sensitivity", (onProgress) =>
    compareSensitivities({
      model,
      training,
      adapter: () => session.adapter(),
      data: () => session.trainingData(),
      policy: (sensitivity) => policyFrom({ ...freeze, sensitivity }, options),
      evaluate: (trainer) => session.evaluate(trainer),
      onProgress,
    }),
  );
  for (const { sensitivity, metrics } of runs) screen.say(`${sensitivity}  ${metricWords(metrics)}`);
  const rows = runs.flatMap(({ sensitivity, frozen, stepsPerEpoch }) =>
    frozen.map(({ name, layer, step }) => ({ sensitivity, name, layer, step, epoch: step / stepsPerEpoch })),
  );
  const figure = sensitivityFigure(runs);
  await saveResults(out, "sensitivity", raw, { record: { runs }, rows, figure, gpu: engine.info }, print);
}
