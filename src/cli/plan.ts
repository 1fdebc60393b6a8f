import { readFile } from "node:fs/promises";
import { basename, dirname } from "node:path";
import { FileFormatError } from "../base/errors";
import { LIFETIMES } from "../gpu/ledger";
import { parseJson } from "../io/json";
import { describeChoice, fitBudget } from "../train/estimate/fit-budget";
import { plan } from "../train/estimate/predict";
import type { Prediction } from "../train/estimate/predict";
import {
  activationsOption,
  adapterOption,
  bytesOption,
  countOption,
  numberOption,
  recomputeOption,
  textOption,
  UsageError,
  weightsOption,
} from "./options";
import type { Given } from "./options";

/** `safetape plan`: what a training step needs, from a config.json alone. */
export async function planCommand(given: Given, print: (line: string) => void): Promise<void> {
  const config = await readConfigFile(textOption(given, "config", "--config"));
  const request = {
    config,
    adapter: adapterOption(given),
    batch: countOption(given, "batch", "--batch", 8),
    recompute: recomputeOption(given),
    weights: weightsOption(given),
    activations: activationsOption(given),
    ...(given["length"] === undefined ? {} : { length: countOption(given, "length", "--length") }),
  };
  if (given["budget"] !== undefined) {
    const { adapter, batch, length } = request;
    const choice = fitBudget(
      { config, adapter, batch, ...(length && { length }) },
      bytesOption(given, "budget", "--budget")!,
    );
    const { prediction, ...chosen } = choice;
    print(
      given["json"]
        ? JSON.stringify({ ...chosen, peakBytes: prediction.peakBytes, bytes: prediction.bytes })
        : describeChoice(choice),
    );
    return;
  }
  const freezeBelow = numberOption(given, "freezeBelow", "--freeze-below", 0);
  const prediction = plan({ ...request, freezeBelow });
  if (freezeBelow > prediction.layers) {
    throw new UsageError(`--freeze-below is ${freezeBelow}.`, `This model has ${prediction.layers} layers.`);
  }
  const afterFreezing = Array.from({ length: prediction.layers - freezeBelow + 1 }, (_, i) => {
    const below = freezeBelow + i;
    const { peakBytes, bytes } = plan({ ...request, freezeBelow: below });
    return { freezeBelow: below, peakBytes, bytes };
  });
  if (given["json"]) print(JSON.stringify(jsonOf(prediction, freezeBelow, afterFreezing)));
  else report(prediction, afterFreezing, print);
}

type AfterFreezing = readonly Pick<Prediction, "peakBytes" | "bytes">[];

function jsonOf({ explanation, ...rest }: Prediction, freezeBelow: number, afterFreezing: AfterFreezing): object {
  return { ...rest, freezeBelow, horizon: explanation.horizon, afterFreezing };
}

async function readConfigFile(path: string): Promise<Record<string, unknown>> {
  const bytes = await readFile(path).catch(() => {
    throw new FileFormatError(`No file ${path}.`, "Give the path of a model's config.json.");
  });
  const config = parseJson(bytes, `${basename(path)} in ${dirname(path)}`);
  if (config && typeof config === "object" && !Array.isArray(config)) return config as Record<string, unknown>;
  throw new FileFormatError(`${path} holds no JSON object.`, "Give the path of a model's config.json.");
}

const gigabytes = (bytes: number): string => `${(bytes / 1e9).toFixed(2).padStart(8)} GB`;

function report(prediction: Prediction, after: AfterFreezing, print: (line: string) => void): void {
  const { peakBytes, bytes, peakAt, parameters, trainableParameters, flops } = prediction;
  print(`${parameters} parameters in the checkpoint; ${trainableParameters} numbers learn`);
  print(`peak ${gigabytes(peakBytes)}   ${peakBytes} bytes`);
  for (const lifetime of LIFETIMES)
    print(`  ${lifetime.padEnd(8)}${gigabytes(bytes[lifetime])}   ${bytes[lifetime]} bytes`);
  print(`all buffers exist from the ${peakAt}`);
  const again = flops.recompute > 0 ? `, ${flops.recompute.toExponential(3)} once more` : "";
  print(
    `FLOPs of a step: ${flops.forward.toExponential(3)} forward${again}, ${flops.backward.toExponential(3)} backward`,
  );
  print("with all adapters below a layer frozen:");
  for (const [i, { peakBytes: bytesThen }] of after.entries()) {
    print(
      `  ${String(prediction.layers - after.length + 1 + i).padStart(4)} ${gigabytes(bytesThen)}   ${bytesThen} bytes`,
    );
  }
}
