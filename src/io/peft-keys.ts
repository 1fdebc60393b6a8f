import { bareName } from "./wrappers";

const PREFIX = "base_model.model.";

/** Key under which PEFT stores a tensor: "base_model.model.classifier.weight" for "classifier.weight". */
export function headKey(parameter: string): string {
  return `${PREFIX}${parameter}`;
}

/** Name of a tensor from PEFT's key, without what wrappers of the model add. Some releases also put "modules_to_save." or the adapter's name into keys. */
export function stripPrefix(key: string): string {
  return bareName(key)
    .replace(/\.modules_to_save(\.default)?\./, ".")
    .replace(/\.(lora_[AB])\.default\./, ".$1.");
}
