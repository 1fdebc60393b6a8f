import { lossLandscape } from "../../analysis/landscape";
import type { Landscape } from "../../analysis/landscape";
import type { Task } from "../../model/model";
import { landscapeFigure } from "../../report/analysis/landscape";
import type { Named } from "../../report/analysis/named";
import { ANALYZE } from "../flags";
import { readOptions, UsageError } from "../options";
import type { Print, RawOptions } from "../options";
import { checkResults, saveResults } from "./results";
import { AnalysisSession } from "./session";
import { subjects, withPolicy } from "./subjects";

/** `safetape analyze landscape`: the loss on a plane through each of several fine-tuned models. */
export async function landscapeCommand(rawWithoutPolicy: RawOptions, print: Print): Promise<void> {
  const raw = withPolicy(rawWithoutPolicy);
  const options = readOptions(ANALYZE, raw);
  await checkResults(options.out, "landscape", raw);
  const { points, span, over = "all", vectors, seed } = options;
  if (span === 0) throw new UsageError("--span is 0.", "Give a number above 0.");
  using session = await AnalysisSession.open(options);
  const batches = session.firstBatches();
  const planes: Named<Landscape>[] = [];
  for (const { name, result: subject } of await subjects(session)) {
    const result = await session.progress(`landscape, ${name}`, (onProgress) =>
      lossLandscape(subject, { batches, over, points, span, vectors, seed, onProgress }),
    );
    planes.push({ name, result });
  }
  const rows = planes.flatMap(({ name, result: { coordinates, losses } }) =>
    losses.flatMap((row, j) => row.map((loss, i) => ({ name, first: coordinates[i], second: coordinates[j], loss }))),
  );
  const figure = landscapeFigure(planes, lossName(session.model.model.task));
  await saveResults(
    session.out,
    "landscape",
    raw,
    { record: { planes }, rows, figure, gpu: session.engine.info },
    print,
  );
}

const lossName = (task: Task): string =>
  task === "regression" ? "loss (mean squared error)" : "loss (mean cross-entropy, nats)";
