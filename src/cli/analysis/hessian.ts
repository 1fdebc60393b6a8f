import { hessianEigenvalues } from "../../analysis/hessian";
import type { HessianSpectrum } from "../../analysis/hessian";
import { hessianFigure } from "../../report/analysis/hessian";
import type { Named } from "../../report/analysis/named";
import { choiceOption, countOption, numberOption } from "../options";
import type { Given } from "../options";
import { saveResults } from "./results";
import { subjects, withPolicy } from "./subjects";
import { openOut, Workplace } from "./workplace";

/** `safetape analyze hessian`: the largest eigenvalues of the loss's Hessian at each of several fine-tuned models. */
export async function hessianCommand(told: Given, print: (line: string) => void): Promise<void> {
  const given = withPolicy(told);
  const options = {
    count: countOption(given, "count", "--count", 5),
    maxSteps: countOption(given, "maxProducts", "--max-products", 60),
    over: choiceOption(given, "over", "--over", ["adapter", "all"], "adapter"),
    ...(given["epsilon"] === undefined ? {} : { epsilon: numberOption(given, "epsilon", "--epsilon") }),
  };
  using place = await Workplace.open(given);
  const out = await openOut(given);
  const batches = place.batches(countOption(given, "batches", "--batches", 4));
  const spectra: Named<HessianSpectrum>[] = [];
  for (const { name, result: subject } of await subjects(place, given, out.name)) {
    const result = await place.watched(`Hessian, ${name}`, (onProgress) =>
      hessianEigenvalues(subject, { ...options, batches, seed: place.seed, onProgress }),
    );
    spectra.push({ name, result });
  }
  const rows = spectra.flatMap(({ name, result }) =>
    result.eigenvalues.map((pair, i) => ({ name, rank: i + 1, ...pair })),
  );
  const figure = hessianFigure(spectra);
  await saveResults(out, "hessian", given, { record: { spectra }, rows, figure, gpu: place.engine.info }, print);
}
