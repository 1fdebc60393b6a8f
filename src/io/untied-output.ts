import { elements, sameShape } from "../base/shape";
import type { Model } from "../model/model";
import type { Checkpoint } from "./checkpoint";
import { WINDOW_ELEMENTS } from "./upload";

/**
 * Whether a checkpoint has other values for a last projection than for the embeddings' table that config.json says it shares. As in
 * transformers 5, the two are then not tied. Files often have the same table under both names.
 */
export async function isUntied(model: Model, checkpoint: Checkpoint): Promise<boolean> {
  const { module, table } = model.tiedOutput ?? {};
  const own = `${module}.weight`;
  const shared = table === undefined ? undefined : model.aliases(table).find((name) => checkpoint.has(name));
  if (shared === undefined || !checkpoint.has(own)) return false;
  const [{ shape }, other] = [checkpoint.info(own), checkpoint.info(shared)];
  if (!sameShape(shape, other.shape)) return true;
  const count = elements(shape);
  for (let first = 0; first < count; first += WINDOW_ELEMENTS) {
    const part = { first, end: Math.min(count, first + WINDOW_ELEMENTS) };
    const [a, b] = await Promise.all([checkpoint.read(own, part), checkpoint.read(shared, part)]);
    if (a.some((value, i) => value !== b[i])) return true;
  }
  return false;
}
