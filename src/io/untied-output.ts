import { FileFormatError } from "../base/errors";
import { elements, sameShape } from "../base/shape";
import type { Model } from "../model/model";
import type { Checkpoint } from "./checkpoint";
import { WINDOW_ELEMENTS } from "./upload";

/**
 * @throws FileFormatError for stacks with tables of embeddings of their own: the model has one for all. Files often have the same table
 * under several names.
 */
export async function checkShared(model: Model, checkpoint: Checkpoint): Promise<void> {
  const { wordEmbeddings: table } = model;
  const names = table === undefined ? [] : model.aliases(table);
  const [first, ...others] = names.filter((name) => checkpoint.has(name));
  for (const other of others) {
    if (!(await areDifferent(checkpoint, first!, other))) continue;
    throw new FileFormatError(
      `The checkpoint ${checkpoint.directory.name} has other values for ${other} than for ${first}, which are one table in a ${model.family} model here.`,
      "Load a checkpoint whose encoder and decoder share the table of their embeddings.",
    );
  }
}

/**
 * Whether a checkpoint has other values for a last projection than for the embeddings' table that config.json says it shares. As in
 * transformers 5, the two are then not tied. Files often have the same table under both names.
 */
export async function isUntied(model: Model, checkpoint: Checkpoint): Promise<boolean> {
  const { module, table } = model.tiedOutput ?? {};
  const own = `${module}.weight`;
  const shared = table === undefined ? undefined : model.aliases(table).find((name) => checkpoint.has(name));
  return shared !== undefined && checkpoint.has(own) && (await areDifferent(checkpoint, own, shared));
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
