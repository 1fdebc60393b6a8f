import { lossLandscape } from "../../analysis/landscape";
import type { Landscape } from "../../analysis/landscape";
import type { Task } from "../../model/model";
import { landscapeFigure } from "../../report/analysis/landscape";
import type { Named } from "../../report/analysis/named";
import { choiceOption, countOption, numberOption, UsageError } from "../options";
import type { Given } from "../options";
import { saveResults } from "./results";
import { subjects, withPolicy } from "./subjects";
import { openOut, Workplace } from "./workplace";

/** `safetape analyze landscape`: the loss on a plane through each of several fine-tuned models. */
export async function landscapeCommand(told: Given, print: (line: string) => void): Promise<void> {
  const given = withPolicy(told);
  const options = {
    points: countOption(given, "points", "--points", 11, 3),
    span: numberOption(given, "span", "--span", 1),
    over: choiceOption(given, "over", "--over", ["adapter", "all"], "all"),
  };
  if (options.span === 0) throw new UsageError("--span is 0.", "Give a number above 0.");
  using place = await Workplace.open(given);
  const out = await openOut(given);
  const batches = place.batches(countOption(given, "batches", "--batches", 4));
  const planes: Named<Landscape>[] = [];
  for (const { name, result: subject } of await subjects(place, given, out.name)) {
    const result = await place.watched(`landscape, ${name}`, (onProgress) =>
      lossLandscape(subject, { ...options, batches, seed: place.seed, onProgress }),
    );
    planes.push({ name, result });
  }
  const rows = planes.flatMap(({ name, result: { coordinates, losses } }) =>
    losses.flatMap((row, j) => row.map((loss, i) => ({ name, first: coordinates[i], second: coordinates[j], loss }))),
  );
  const figure = landscapeFigure(planes, lossName(place.model.model.task));
  await saveResults(out, "landscape", given, { record: { planes }, rows, figure, gpu: place.engine.info }, print);
}

const lossName = (task: Task): string =>
  task === "regression" ? "loss (mean squared error)" : "loss (mean cross-entropy, nats)";
