import { hessianEigenvalues } from "../../analysis/hessian";
import type { HessianSpectrum } from "../../analysis/hessian";
import { hessianFigure } from "../../report/analysis/hessian";
import type { Named } from "../../report/analysis/named";
import { ANALYZE } from "../flags";
import { readOptions } from "../options";
import type { Print, RawOptions } from "../options";
import { checkResults, saveResults } from "./results";
import { AnalysisSession } from "./session";
import { subjects, withPolicy } from "./subjects";

/** `safetape analyze hessian`: the largest eigenvalues of the loss's Hessian at each of several fine-tuned models. */
export async function hessianCommand(rawWithoutPolicy: RawOptions, print: Print): Promise<void> {
  const raw = withPolicy(rawWithoutPolicy);
  const options = readOptions(ANALYZE, raw);
  await checkResults(options.out, "hessian", raw);
  const { count, maxProducts: maxSteps, over = "adapter", epsilon, seed } = options;
  using session = await AnalysisSession.open(options);
  const batches = session.firstBatches();
  const spectra: Named<HessianSpectrum>[] = [];
  for (const { name, result: subject } of await subjects(session)) {
    const result = await session.progress(`Hessian, ${name}`, (onProgress) =>
      hessianEigenvalues(subject, {
        batches,
        over,
        count,
        maxSteps,
        seed,
        onProgress,
        ...(epsilon !== undefined && { epsilon }),
      }),
    );
    spectra.push({ name, result });
  }
  const rows = spectra.flatMap(({ name, result }) =>
    result.eigenvalues.map((eigenvalue, i) => ({ name, rank: i + 1, ...eigenvalue })),
  );
  const figure = hessianFigure(spectra);
  await saveResults(
    session.out,
    "hessian",
    raw,
    { record: { spectra }, rows, figure, gpu: session.engine.info },
    print,
  );
}
