import { ConfigError } from "../base/errors";
import { oneLine } from "../io/json";
import type { PeftConfig } from "../io/peft";
import { isSet, LORA_WITH_BIASES, parseLoraConfig } from "../io/peft-lora";
import { adaloraFromConfig } from "./adalora";
import type { Adapter } from "./adapter";
import { afloraFromConfig } from "./aflora";
import { bitfitFromConfig } from "./bitfit";
import { bottleneckFromConfig } from "./bottleneck";
import { doraFromConfig } from "./dora";
import { ia3FromConfig } from "./ia3";
import { lnTuningFromConfig } from "./ln-tuning";
import { lohaFromConfig } from "./loha";
import { lokrFromConfig } from "./lokr";
import { initialisedLora } from "./lora-init";
import { meftFromConfig } from "./meft";
import { oftFromConfig } from "./oft";
import { pTuningFromConfig } from "./p-tuning";
import { prefixFromConfig } from "./prefix";
import { promptFromConfig } from "./prompt";
import { soraFromConfig } from "./sora";
import { veraFromConfig } from "./vera";

type FromConfig = (config: PeftConfig, where: string) => Adapter;

/** A LoRA with lengths, or with first values that its file names. */
const anyLora: FromConfig = (config, where) => {
  const lora = parseLoraConfig(config, where);
  return (lora.use_dora ? doraFromConfig : initialisedLora)(lora, where, { isFile: true });
};

/** Every kind of adapter that can be loaded, by its `peft_type`: one chunk for all but LoRA, since each is small. */
const KINDS: Readonly<Record<string, FromConfig>> = {
  LORA: anyLora,
  [LORA_WITH_BIASES]: anyLora,
  IA3: ia3FromConfig,
  SAFETAPE_BITFIT: bitfitFromConfig,
  VERA: veraFromConfig,
  ADALORA: adaloraFromConfig,
  LN_TUNING: lnTuningFromConfig,
  LOHA: lohaFromConfig,
  LOKR: lokrFromConfig,
  OFT: oftFromConfig,
  PREFIX_TUNING: prefixFromConfig,
  P_TUNING: pTuningFromConfig,
  PROMPT_TUNING: promptFromConfig,
  SAFETAPE_AFLORA: afloraFromConfig,
  SAFETAPE_BOTTLENECK: bottleneckFromConfig,
  SAFETAPE_MEFT: meftFromConfig,
  SAFETAPE_SORA: soraFromConfig,
};

/** The adapter of an adapter_config.json that is no plain LoRA; see `adapterFromConfig`. */
export function furtherFromConfig(config: PeftConfig, where: string): Adapter {
  const { peft_type: kind } = config;
  const from = Object.hasOwn(KINDS, kind) ? KINDS[kind] : undefined;
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
