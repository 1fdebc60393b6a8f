const PREFIX = "base_model.model.";

/** The key under which PEFT stores a tensor of a module: "classifier.weight" -> "base_model.model.classifier.weight". */
export function headKey(parameter: string): string {
  return `${PREFIX}${parameter}`;
}

/** A file's key without PEFT's prefix; some releases also keep "modules_to_save." or the adapter's name in it. */
export function stripPrefix(key: string): string {
  const bare = key.startsWith(PREFIX) ? key.slice(PREFIX.length) : key;
  return bare.replace(/\.modules_to_save(\.default)?\./, ".").replace(/\.(lora_[AB])\.default\./, ".$1.");
}
