import { adapterContribution } from "../../analysis/contribution";
import type { Contribution } from "../../analysis/contribution";
import type { Directory } from "../../io/directory";
import { jsonBytes } from "../../io/json";
import { contributionFigure } from "../../report/analysis/contribution";
import { finishedResult } from "../finished-run";
import { ANALYZE } from "../flags";
import { readOptions } from "../options";
import type { Print, RawOptions } from "../options";
import { metricWords } from "../view/run-view";
import { checkResults, saveResults } from "./results";
import { AnalysisSession } from "./session";

/** `safetape analyze contribution`: one run for each layer's adapter alone. Finished runs in `--out` are reused. */
export async function contributionCommand(raw: RawOptions, print: Print): Promise<void> {
  const options = readOptions(ANALYZE, raw);
  await checkResults(options.out, "contribution", raw);
  // `--layers` says which runs to make, not what every run adapts.
  using session = await AnalysisSession.open({ ...options, layers: undefined });
  const { model, training, engine, out, screen } = session;
  const settings = settingsOf(raw);
  const all = Array.from({ length: model.model.layers }, (_, layer) => layer);
  const layers = typeof options.layers === "object" && "length" in options.layers ? options.layers : all;
  const finished = await finishedRuns(out, settings, [undefined, ...layers]);
  for (const run of finished) screen.say(`${runWords(run)}  reused`);
  const runs = await session.progress("contribution", (onProgress) =>
    adapterContribution({
      model,
      training,
      finished,
      layers,
      adapter: (adapted) => session.adapter(adapted),
      data: () => session.trainingData(),
      evaluate: (trainer) => session.evaluate(trainer),
      onProgress,
      async onRun(run) {
        await out.write(fileOf(run.layer), jsonBytes({ settings, gpu: engine.info, result: run }));
        screen.say(`${runWords(run)}  ${run.seconds.toFixed(0)} s`);
      },
    }),
  );
  const metric = Object.keys(runs[0]?.metrics ?? {})[0] ?? "loss";
  const rows = runs.map(({ layer = "all", metrics, peak, ...numbers }) => ({
    layer,
    ...metrics,
    ...numbers,
    ...Object.fromEntries(Object.entries(peak).map(([lifetime, bytes]) => [`peak_${lifetime}`, bytes])),
  }));
  const figure = contributionFigure(runs, metric);
  await saveResults(out, "contribution", raw, { record: { runs }, rows, figure, gpu: engine.info }, print);
}

const fileOf = (layer: number | undefined): string => (layer === undefined ? "all-layers.json" : `layer-${layer}.json`);

function runWords({ layer, metrics, peakBytes }: Contribution): string {
  const name = layer === undefined ? "all layers" : `layer ${layer}`;
  return `${name}  ${metricWords(metrics)}  peak ${(peakBytes / 1e6).toFixed(2)} MB`;
}

/** All options that the result of a single run depends on. */
function settingsOf(raw: RawOptions): Record<string, unknown> {
  const { layers: _layers, out: _out, overwrite: _overwrite, quiet: _quiet, json: _json, png: _png, ...settings } = raw;
  return settings;
}

async function finishedRuns(
  out: Directory,
  settings: object,
  layers: readonly (number | undefined)[],
): Promise<Contribution[]> {
  const runs = layers.map(async (layer) => {
    const run = await finishedResult<Contribution>(out, fileOf(layer), settings);
    // JSON has no undefined: the saved run with all layers has no `layer`.
    return run && { ...run, layer };
  });
  return (await Promise.all(runs)).filter((run) => run !== undefined);
}
