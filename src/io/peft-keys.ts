import { bareName } from "./wrappers";

const PREFIX = "base_model.model.";

/** Key under which PEFT stores a tensor: "base_model.model.classifier.weight" for "classifier.weight". */
export function headKey(parameter: string): string {
  return `${PREFIX}${parameter}`;
}

/**
 * A file's tensors under the keys of the model's modules alone. PEFT wraps adapted modules (their own tensors are those of a
 * `base_layer`) and saved ones: with `bias: "all"` a file has a saved module's biases three times, under its own name, as
 * `modules_to_save`, which is the same or an older release's only one, and as `original_module`, which nothing reads.
 */
export function unwrappedKeys<T>(stored: ReadonlyMap<string, T>): Map<string, T> {
  const keys = [...stored].filter(([key]) => !key.includes(".original_module."));
  const own = (key: string): string =>
    key.replace(/\.modules_to_save(?:\.default)?\./, ".").replace(/\.base_layer\.(weight|bias)$/, ".$1");
  const isCopy = ([key]: readonly [string, T]): boolean => key.includes(".modules_to_save.");
  const copiesFirst = [...keys.filter(isCopy), ...keys.filter((entry) => !isCopy(entry))];
  return new Map(copiesFirst.map(([key, tensor]) => [own(key), tensor]));
}

/** Name of a tensor from PEFT's key, without what wrappers of the model add. Some releases also put "modules_to_save." or the adapter's name into keys. */
export function stripPrefix(key: string): string {
  return bareName(key)
    .replace(/\.modules_to_save(\.default)?\./, ".")
    .replace(/\.(lora_[AB])\.default\./, ".$1.");
}
