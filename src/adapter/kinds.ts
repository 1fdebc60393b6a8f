import { ConfigError } from "../base/errors";
import { oneLine } from "../io/json";
import type { PeftConfig } from "../io/peft";
import { isSet, LORA_WITH_BIASES, parseLoraConfig } from "../io/peft-lora";
import type { Adapter } from "./adapter";
import { loraFromConfig } from "./lora";

type FromConfig = (config: PeftConfig, where: string) => Adapter | Promise<Adapter>;

const anyLora: FromConfig = async (config, where) => {
  const lora = parseLoraConfig(config, where);
  return lora.use_dora ? (await import("./further-kinds")).doraFromConfig(lora) : loraFromConfig(lora);
};

/** Every kind of adapter that can be loaded, by its `peft_type`. A page loads the code of the rarer ones when it meets one. */
const KINDS: Readonly<Record<string, () => FromConfig | Promise<FromConfig>>> = {
  LORA: () => anyLora,
  [LORA_WITH_BIASES]: () => anyLora,
  IA3: async () => (await import("./further-kinds")).ia3FromConfig,
  SAFETAPE_BITFIT: async () => (await import("./further-kinds")).bitfitFromConfig,
  VERA: async () => (await import("./further-kinds")).veraFromConfig,
  ADALORA: async () => (await import("./further-kinds")).adaloraFromConfig,
  LN_TUNING: async () => (await import("./further-kinds")).lnTuningFromConfig,
  LOHA: async () => (await import("./further-kinds")).lohaFromConfig,
  LOKR: async () => (await import("./further-kinds")).lokrFromConfig,
  OFT: async () => (await import("./further-kinds")).oftFromConfig,
  PROMPT_TUNING: async () => (await import("./further-kinds")).promptFromConfig,
  SAFETAPE_AFLORA: async () => (await import("./further-kinds")).afloraFromConfig,
  SAFETAPE_BOTTLENECK: async () => (await import("./further-kinds")).bottleneckFromConfig,
  SAFETAPE_MEFT: async () => (await import("./further-kinds")).meftFromConfig,
  SAFETAPE_SORA: async () => (await import("./further-kinds")).soraFromConfig,
};

/**
 * The adapter of an adapter_config.json.
 * @param where names the file in errors.
 * @throws ConfigError for an unknown `peft_type`, FileFormatError for a wrong value.
 */
export async function adapterFromConfig(config: PeftConfig, where: string): Promise<Adapter> {
  const { peft_type: kind } = config;
  const from = Object.hasOwn(KINDS, kind) ? await KINDS[kind]!() : undefined;
  if (from && from !== anyLora && isSet(config["use_dora"])) {
    throw new ConfigError(
      `The adapter in ${where} has use_dora: true, which peft_type ${kind} does not combine with.`,
      "DoRA is a form of LoRA alone: use peft_type LORA, or remove use_dora.",
    );
  }
  if (from) return from(config, where);
  throw new ConfigError(
    `The adapter in ${where} has peft_type ${oneLine(kind)}.`,
    `The kinds that can be loaded are ${Object.keys(KINDS).join(", ")}.`,
  );
}
