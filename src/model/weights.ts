import { ConfigError } from "../base/errors";
import { WEIGHT_FORMATS } from "../base/packed";
import type { WeightFormat } from "../base/packed";
import type { Model } from "./model";

/**
 * The same model with its frozen weights in a format of fewer bits. The layers' projections take it; so do, in 16 bits
 * where it has fewer, the token embeddings and a language model's last projection. Norms, biases, positions and the task's
 * head stay f32.
 * @throws ConfigError for a format that there is none of.
 */
export function withWeights(model: Model, format: WeightFormat): Model {
  if (!WEIGHT_FORMATS.includes(format)) {
    throw new ConfigError(
      `${JSON.stringify(format)} is no format of weights.`,
      `Choose one of ${WEIGHT_FORMATS.join(", ")}.`,
    );
  }
  if (format === "f32") return model;
  const inLayers = model.projections.filter(({ layer }) => layer !== undefined).map(({ name }) => `${name}.weight`);
  const [packed, tables] = [new Set(inLayers), new Set([model.wordEmbeddings, "lm_head.weight"])];
  const wide = format === "bf16" ? "bf16" : "f16";
  return {
    ...model,
    parameters: model.parameters.map((parameter) => {
      if (packed.has(parameter.name)) return { ...parameter, dtype: format };
      return tables.has(parameter.name) ? { ...parameter, dtype: wide } : parameter;
    }),
  };
}
