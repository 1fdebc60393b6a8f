import { ConfigError } from "../base/errors";
import { oneLine } from "../io/json";
import type { PeftConfig } from "../io/peft";
import { parseLoraConfig } from "../io/peft-lora";
import type { Adapter } from "./adapter";
import { adaloraFromConfig } from "./adalora";
import { afloraFromConfig } from "./aflora";
import { bitfitFromConfig } from "./bitfit";
import { bottleneckFromConfig } from "./bottleneck";
import { ia3FromConfig } from "./ia3";
import { loraFromConfig } from "./lora";
import { promptFromConfig } from "./prompt";
import { soraFromConfig } from "./sora";
import { veraFromConfig } from "./vera";

/** Every kind of adapter that can be loaded, by its `peft_type`. */
const KINDS: Readonly<Record<string, (config: PeftConfig, where: string) => Adapter>> = {
  LORA: (config, where) => loraFromConfig(parseLoraConfig(config, where)),
  VERA: veraFromConfig,
  IA3: ia3FromConfig,
  ADALORA: adaloraFromConfig,
  PROMPT_TUNING: promptFromConfig,
  SAFETAPE_AFLORA: afloraFromConfig,
  SAFETAPE_BITFIT: bitfitFromConfig,
  SAFETAPE_BOTTLENECK: bottleneckFromConfig,
  SAFETAPE_SORA: soraFromConfig,
};

/**
 * The adapter of an adapter_config.json.
 * @param where names the file in errors.
 * @throws ConfigError for an unknown `peft_type`, FileFormatError for a wrong value.
 */
export function adapterFromConfig(config: PeftConfig, where: string): Adapter {
  const { peft_type: kind } = config;
  if (Object.hasOwn(KINDS, kind)) return KINDS[kind]!(config, where);
  throw new ConfigError(
    `The adapter in ${where} has peft_type ${oneLine(kind)}.`,
    `The kinds that can be loaded are ${Object.keys(KINDS).join(", ")}.`,
  );
}
