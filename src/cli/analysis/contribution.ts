import { adapterContribution } from "../../analysis/contribution";
import type { Contribution } from "../../analysis/contribution";
import type { Directory } from "../../io/directory";
import { jsonBytes } from "../../io/json";
import { contributionFigure } from "../../report/analysis/contribution";
import { layersOption } from "../options";
import type { Given } from "../options";
import { finishedPart } from "../parts";
import { saveResults } from "./results";
import { openOut, Workplace } from "./workplace";

/** `safetape analyze contribution`: a run for every layer's adapter alone. Runs that are in `--out` are not run again. */
export async function contributionCommand(given: Given, print: (line: string) => void): Promise<void> {
  const { layers: chosen, ...rest } = given;
  using place = await Workplace.open(rest);
  const { model, training, engine } = place;
  const out = await openOut(given);
  const settings = settingsOf(rest);
  const wanted = chosen === undefined ? undefined : layersOption(given, "layers", "--layers");
  const layers = Array.isArray(wanted) ? (wanted as readonly number[]) : all(model.model.layers);
  const finished = await finishedRuns(out, settings, [undefined, ...layers]);
  const { screen } = place;
  for (const run of finished) screen.say(`${told(run)}  kept`);
  const runs = await place.watched("contribution", (onProgress) =>
    adapterContribution({
      model,
      training,
      finished,
      layers,
      adapter: (own) => place.adapter(own),
      data: () => place.trainingData(),
      judge: (trainer) => place.judge(trainer),
      onProgress,
      async onRun(run) {
        await out.write(fileOf(run.layer), jsonBytes({ settings, gpu: engine.info, result: run }));
        screen.say(`${told(run)}  ${run.seconds.toFixed(0)} s`);
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
  await saveResults(out, "contribution", given, { record: { runs }, rows, figure, gpu: engine.info }, print);
}

const all = (count: number): number[] => Array.from({ length: count }, (_, layer) => layer);

const fileOf = (layer: number | undefined): string => (layer === undefined ? "all-layers.json" : `layer-${layer}.json`);

function told({ layer, metrics, peakBytes }: Contribution): string {
  const shown = Object.entries(metrics).map(([name, value]) => `${name} ${value.toFixed(4)}`);
  return `${layer === undefined ? "all layers" : `layer ${layer}`}  ${shown.join("  ")}  peak ${(peakBytes / 1e6).toFixed(2)} MB`;
}

/** All that a run's outcome depends on. */
function settingsOf(given: Given): Record<string, unknown> {
  const { out: _out, quiet: _quiet, json: _json, png: _png, "--": _rest, ...settings } = given;
  return settings;
}

async function finishedRuns(
  out: Directory,
  settings: object,
  layers: readonly (number | undefined)[],
): Promise<Contribution[]> {
  const found = layers.map(async (layer) => {
    const run = await finishedPart<Contribution>(out, fileOf(layer), settings);
    // JSON has no undefined: the run with all layers has no `layer`.
    return run && { ...run, layer };
  });
  return (await Promise.all(found)).filter((run) => run !== undefined);
}
