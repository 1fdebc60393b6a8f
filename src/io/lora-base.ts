import { ConfigError } from "../base/errors";
import type { LoraConfig } from "./peft-lora";

/** A value of `init_lora_weights`. */
type Init = LoraConfig["init_lora_weights"];

/** What PEFT's other initialisations take. */
const OTHERS: Readonly<Record<string, string>> = {
  eva: "which takes singular vectors of each projection's inputs on the training data",
  corda: "which takes a decomposition by covariances of inputs on chosen data",
  lora_ga: "which takes gradients of the complete model on the training data",
  loftq: "which takes a base in bitsandbytes' formats, quantised again in turn with the decomposition",
  mica: "which takes the smallest singular vectors, and a B that never learns",
};

const KNOWN: readonly string[] = ["gaussian", "orthogonal", "pissa", "olora"];
const IS_RANDOMISED = /^pissa_niter_\d+$/;

/**
 * Whether a LoRA trains a part of the base model's weights, which PEFT takes out of them when the adapter is loaded (PiSSA and OLoRA, by
 * `init_lora_weights`): its A and B mean nothing beside the complete weights.
 */
export const isPartOfWeights = (init: Init): init is string =>
  typeof init === "string" && /^(?:pissa|olora)/.test(init);

/** @throws ConfigError for an initialisation that a LoRA cannot begin with here. */
export function checkInit(init: Init, where: string): void {
  if (typeof init === "boolean" || KNOWN.includes(init) || IS_RANDOMISED.test(init)) return;
  throw new ConfigError(
    `${where} has init_lora_weights ${named(init)}.`,
    "Use true, false, gaussian, orthogonal, pissa, pissa_niter_N or olora.",
  );
}

/** @throws ConfigError for an initialisation that leaves a base which the file does not tell. */
export function checkStoredInit(init: Init, where: string): void {
  // EVA's file is that of any LoRA.
  if (typeof init === "boolean" || KNOWN.includes(init) || init === "eva") return;
  throw new ConfigError(
    `${where} has init_lora_weights ${IS_RANDOMISED.test(init) ? `${JSON.stringify(init)}: its base follows from random numbers that the file does not have` : named(init)}.`,
    "Save it in Python with path_initial_model_for_weight_conversion, which makes it a LoRA on the original model, or train it with another initialisation.",
  );
}

/** A name in quotes, and what it takes where PEFT knows it. */
function named(init: string): string {
  const reason = Object.hasOwn(OTHERS, init) ? `, ${OTHERS[init]!}` : "";
  return `${JSON.stringify(init).slice(0, 80)}${reason}`;
}
