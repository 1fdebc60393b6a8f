import * as v from "valibot";
import { makeAdapter } from "../../adapter/make";
import type { AdapterChoice } from "../../adapter/make";
import { targetProjections } from "../../adapter/targets";
import { ConfigError } from "../../base/errors";
import type { Model, Projection } from "../../model/model";

/** Parts of a model that an ablation leaves without adapters, as in the empirical study of PEFT. */
export const PARTS = ["self_attention", "cross_attention", "query_output", "feed_forward"] as const;
export type Part = (typeof PARTS)[number];

const ATTENTION: readonly unknown[] = ["query", "key", "value", "query_key_value", "attention_output"];

/** Attention of a decoder to an encoder's output: T5, BART and its like, BERT and GPT-2 as decoders. */
const isAcross = ({ name }: Projection): boolean => /EncDecAttention|encoder_attn|cross_?attention/i.test(name);

const BELONGS: Readonly<Record<Part, (projection: Projection) => boolean>> = {
  self_attention: (projection) => ATTENTION.includes(projection.role) && !isAcross(projection),
  cross_attention: (projection) => ATTENTION.includes(projection.role) && isAcross(projection),
  query_output: ({ role }) => role === "query" || role === "attention_output",
  feed_forward: ({ role }) => role === "feed_forward_in" || role === "feed_forward_out",
};

const TARGETS = v.object({ target_modules: v.union([v.string(), v.array(v.string())]) });

/**
 * An adapter of the same projections but those of some parts, which are named one by one.
 * @throws ConfigError for a part that the model does not have, or of which the adapter has nothing, and where nothing is left.
 */
export function withoutParts(model: Model, adapter: AdapterChoice, parts: readonly Part[]): AdapterChoice {
  if (parts.length === 0) return adapter;
  const config = v.safeParse(TARGETS, makeAdapter(adapter).peftConfig(model));
  if (!config.success) {
    throw new ConfigError(
      `An ablation leaves out ${parts.join(" and ")}, and the adapter ${adapter.kind} has no targets.`,
      "Use an adapter of projections, such as lora or ia3.",
    );
  }
  const all = targetProjections(model, {
    target_modules: config.output.target_modules,
    exclude_modules: null,
    layers_to_transform: null,
    layers_pattern: null,
    modules_to_save: null,
  });
  for (const part of parts) {
    if (all.some(BELONGS[part])) continue;
    const isInModel = model.projections.some(BELONGS[part]);
    throw new ConfigError(
      `An ablation leaves out ${part}, and ${isInModel ? "its adapter has nothing there" : `this ${model.family} model has none`}.`,
      isInModel
        ? "Name its modules among the adapter's targets."
        : "Remove this method from the study, or use another model.",
    );
  }
  const left = all.filter((projection) => !parts.some((part) => BELONGS[part](projection)));
  if (left.length > 0) return { ...adapter, targets: left.map(({ name }) => name) };
  throw new ConfigError(
    `Without ${parts.join(" and ")} an adapter of this ${model.family} model has no module left.`,
    "Give the adapter more targets.",
  );
}
