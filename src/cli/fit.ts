import * as v from "valibot";
import type { Adapter } from "../adapter/adapter";
import { readJson } from "../io/json";
import { createModel, withHead } from "../model/families";
import type { HeadOptions } from "../model/families";
import { openDirectory } from "../node/directory";
import { describeChoice, fitBudget } from "../train/estimate/fit-budget";
import { activationsOption, bytesOption, countOption, recomputeOption, UsageError, weightsOption } from "./options";
import type { Given } from "./options";

const CONFIG = v.record(v.string(), v.unknown());

/**
 * How a run stores, splits and recomputes: as its options say or, with `--fit`, as it fits into `--memory-budget`; the
 * choice is told on stderr.
 * @throws UsageError for `--fit` without a budget, MemoryBudgetError with the smallest that would do.
 */
export async function runMemory(given: Given, modelPath: string, head: HeadOptions, adapter: Adapter) {
  const [batch, accumulate] = [
    countOption(given, "batch", "--batch", 8),
    countOption(given, "accumulate", "--accumulate", 1),
  ];
  const told = {
    weights: weightsOption(given),
    activations: activationsOption(given),
    recompute: recomputeOption(given),
  };
  const bytes = bytesOption(given, "memoryBudget", "--memory-budget");
  if (!given["fit"]) {
    const microBatch =
      given["microBatch"] === undefined ? {} : { microBatch: countOption(given, "microBatch", "--micro-batch") };
    return { ...told, ...microBatch, batch, accumulate };
  }
  if (bytes === undefined) throw new UsageError("--fit has no budget.", "Give one with --memory-budget, as 8GB.");
  const config = withHead(await readJson(await openDirectory(modelPath), "config.json", CONFIG), head);
  const model = createModel(config);
  const length = model.image
    ? {}
    : { length: Math.min(model.maxLength, countOption(given, "maxLength", "--max-length", 128)) };
  const choice = fitBudget({ config, adapter, batch, ...length }, bytes);
  if (!given["quiet"]) process.stderr.write(`to fit into ${bytes} bytes: ${describeChoice(choice)}\n`);
  const { weights, activations, recompute } = choice;
  return { weights, activations, recompute, batch, accumulate, microBatch: "fit" as const };
}
