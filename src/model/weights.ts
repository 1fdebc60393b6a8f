import { ConfigError } from "../base/errors";
import { WEIGHT_FORMATS } from "../base/packed";
import type { WeightFormat } from "../base/packed";
import type { Model, ParameterSpec } from "./model";

/**
 * A model whose weights are stored in another format. The projections of the layers are stored in `format`; the token
 * embeddings and a language model's last projection too, but in f16 where `format` has fewer than 16 bits. Norms, biases,
 * position embeddings and the task's head stay f32.
 * @throws ConfigError for an unknown format.
 */
export function withWeights(model: Model, format: WeightFormat): Model {
  if (!WEIGHT_FORMATS.includes(format)) {
    throw new ConfigError(
      `${JSON.stringify(format)} is not a format of weights.`,
      `Choose one of ${WEIGHT_FORMATS.join(", ")}.`,
    );
  }
  if (format === "f32") return model;
  const packed = new Set(
    model.projections.filter(({ role }) => role !== undefined).map(({ name }) => `${name}.weight`),
  );
  // Families call their last projections differently.
  const { output, vocabularySize, hiddenSize } = model;
  const isTable = ({ name, layer, shape: [rows, columns] }: ParameterSpec): boolean =>
    name === model.wordEmbeddings ||
    (!!output && layer === undefined && rows === vocabularySize && columns === hiddenSize);
  const tableFormat = format === "bf16" ? "bf16" : "f16";
  return {
    ...model,
    parameters: model.parameters.map((parameter) => {
      if (packed.has(parameter.name)) return { ...parameter, dtype: format };
      return isTable(parameter) ? { ...parameter, dtype: tableFormat } : parameter;
    }),
  };
}
