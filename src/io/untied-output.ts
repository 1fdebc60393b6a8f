import { FileFormatError } from "../base/errors";
import { elements, sameShape } from "../base/shape";
import { createModel } from "../model/families";
import type { Model } from "../model/model";
import type { Checkpoint } from "./checkpoint";
import { WINDOW_ELEMENTS } from "./upload";

/**
 * A model whose last projection has a weight of its own where the checkpoint has other values for it than for the embeddings' table that
 * config.json says it shares. As in transformers 5, the two are then not tied. Files often have the same table under several names.
 * @throws FileFormatError for an encoder and a decoder with other values of what is one table in the model.
 */
export async function asStored(model: Model, checkpoint: Checkpoint): Promise<Model> {
  const { wordEmbeddings: table, tiedOutput: tied, encoderDecoder } = model;
  const names = table === undefined ? [] : model.aliases(table);
  const [first, ...others] = names.filter((name) => checkpoint.has(name));
  if (first === undefined) return model;
  for (const other of encoderDecoder ? others : []) {
    if (!(await areDifferent(checkpoint, first, other))) continue;
    throw new FileFormatError(
      `The checkpoint ${checkpoint.directory.name} has other values for ${other} than for ${first}, which are one table in a ${model.family} model here.`,
      "Load a checkpoint whose encoder and decoder share the table of their embeddings.",
    );
  }
  const own = `${tied?.module}.weight`;
  const isUntied = tied && checkpoint.has(own) && (await areDifferent(checkpoint, own, first));
  return isUntied ? createModel({ ...model.config, tie_word_embeddings: false }, checkpoint) : model;
}

async function areDifferent(checkpoint: Checkpoint, first: string, second: string): Promise<boolean> {
  const { shape } = checkpoint.info(first);
  if (!sameShape(shape, checkpoint.info(second).shape)) return true;
  const count = elements(shape);
  for (let start = 0; start < count; start += WINDOW_ELEMENTS) {
    const part = { first: start, end: Math.min(count, start + WINDOW_ELEMENTS) };
    const [a, b] = await Promise.all([checkpoint.read(first, part), checkpoint.read(second, part)]);
    if (a.some((value, i) => value !== b[i])) return true;
  }
  return false;
}
