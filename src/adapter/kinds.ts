import type { PeftConfig } from "../io/peft";
import { LORA_WITH_BIASES, parseLoraConfig } from "../io/peft-lora";
import type { Adapter } from "./adapter";
import { loraFromConfig } from "./lora";

/**
 * The adapter of an adapter_config.json. A page loads the code of all kinds but LoRA when it meets one.
 * @param where names the file in errors.
 * @throws ConfigError for an unknown `peft_type`, FileFormatError for a wrong value.
 */
export async function adapterFromConfig(config: PeftConfig, where: string): Promise<Adapter> {
  if (["LORA", LORA_WITH_BIASES].includes(config.peft_type)) {
    const lora = parseLoraConfig(config, where);
    if (lora.init_lora_weights === true && !lora.use_dora) return loraFromConfig(lora);
  }
  return (await import("./further-kinds")).furtherFromConfig(config, where);
}
