import { ConfigError } from "../base/errors";
import { shortestSuffixes } from "../io/peft-match";
import { isNormWeight } from "../model/model";
import type { Model } from "../model/model";
import type { ParameterGroup } from "../optimizer/settings";
import type { Adapter } from "./adapter";

export interface LoraPlusOptions {
  /** Learning rate of A, and of all that `loraPlusGroups` does not speed up: that of the optimizer. */
  readonly learningRate: number;
  /** Learning rate of B over that of A (PEFT's `loraplus_lr_ratio`), above 0. */
  readonly ratio: number;
}

/**
 * An optimizer's groups for LoRA+ (Hayou et al. 2024, section 4): B learns at `ratio` times the rate of A. As in PEFT's
 * `create_loraplus_optimizer`, so does every tensor of one axis (biases, also the head's, norms, DoRA's lengths), while the weights of the
 * head and of saved modules learn at A's rate; biases and norms have no weight decay (PEFT decays RMS norms).
 * @throws ConfigError for an adapter that is neither LoRA nor DoRA, and for a ratio that is not above 0.
 */
export function loraPlusGroups(
  adapter: Adapter,
  model: Model,
  { learningRate, ratio }: LoraPlusOptions,
): ParameterGroup[] {
  if (!KINDS.includes(adapter.kind)) {
    throw new ConfigError(
      `LoRA+ gives LoRA's B a learning rate of its own; the adapter is ${adapter.kind}.`,
      "Use lora() or dora(), or groups of the optimizer.",
    );
  }
  if (!(ratio > 0 && ratio < Infinity)) {
    throw new ConfigError(`The ratio of LoRA+ is ${ratio}.`, "Give a number above 0, such as 16.");
  }
  const trained = new Set(adapter.baseTensors?.(model) ?? []);
  const own = adapter.tensors(model).filter(({ isFixed }) => !isFixed);
  const tensors = [...own, ...model.parameters.filter(({ name }) => trained.has(name))];
  const fast = tensors.filter(({ name, shape }) => name.endsWith(".lora_B.weight") || shape.length === 1);
  const all = tensors.map(({ name }) => name);
  const groupOf = (members: typeof fast, settings: Omit<ParameterGroup, "match">): ParameterGroup[] => {
    const ends = shortestSuffixes(
      members.map(({ name }) => name),
      all,
    );
    // A group that matches nothing is refused by the trainer.
    if (ends.length === 0) return [];
    return [{ match: new RegExp(`(?:^|\\.)(?:${ends.join("|").replaceAll(".", "\\.")})$`), ...settings }];
  };
  const learningRateOfB = ratio * learningRate;
  const isDecayed = (tensor: (typeof fast)[number]): boolean => !tensor.name.endsWith(".bias") && !isNormWeight(tensor);
  return [
    ...groupOf(
      fast.filter((tensor) => !isDecayed(tensor)),
      { learningRate: learningRateOfB, weightDecay: 0 },
    ),
    ...groupOf(fast.filter(isDecayed), { learningRate: learningRateOfB }),
  ];
}

/** Kinds of adapters with LoRA's A and B. */
const KINDS: readonly string[] = ["lora", "dora"];
