import { createModel, loadFamily, MODEL_TYPES } from "../model/families";
import type { Model } from "../model/model";

/** A configuration of one layer that has the keys which any family needs. */
const SMALLEST = {
  vocab_size: 8,
  hidden_size: 16,
  num_hidden_layers: 1,
  num_attention_heads: 2,
  intermediate_size: 8,
  max_position_embeddings: 8,
  // T5's and BART's.
  head_dim: 8,
  d_ff: 8,
  encoder_layers: 1,
  encoder_ffn_dim: 8,
  decoder_layers: 1,
  decoder_attention_heads: 2,
  decoder_ffn_dim: 8,
  // DeBERTa's.
  relative_attention: true,
  share_att_key: true,
  norm_rel_ebd: "layer_norm",
  pos_att_type: "p2c|c2p",
  position_buckets: 2,
};

/** Swin's, whose heads are counted by stage. */
const SMALLEST_SWIN = { embed_dim: 16, depths: [1], num_heads: [2], num_attention_heads: undefined };

/** Names of tensors without the numbers of layers. */
const withoutNumbers = (names: readonly string[]): Set<string> =>
  new Set(names.map((name) => name.replace(/\.\d+(?=\.)/g, ".N")));

/**
 * Families, by `model_type`, whose tensors' names a checkpoint has most of, and more than of the model's family; several where
 * they are the same. None where less than half of the checkpoint's names are known.
 * @param names of the checkpoint's tensors, without what wrappers add.
 */
export async function lookAlikes(model: Model, names: readonly string[]): Promise<readonly string[]> {
  const stored = withoutNumbers(names);
  const scores = await Promise.all(
    MODEL_TYPES.map(async (type) => {
      const config = { ...SMALLEST, ...(type.startsWith("swin") && SMALLEST_SWIN), model_type: type };
      await loadFamily(config);
      return { type, ...score(createModel(config), stored) };
    }),
  );
  const own = score(model, stored);
  const best = scores.reduce((a, b) => (isBetter(b, a) ? b : a));
  if (!isBetter(best, own) || 2 * best.known < stored.size) return [];
  const alike = scores.filter((each) => !isBetter(best, each)).map(({ type }) => type);
  // Another head of the same family has other names as well.
  return alike.includes(model.family) ? [] : alike;
}

interface Score {
  /** How many of the checkpoint's names the family has, and of the family's names the checkpoint lacks. */
  readonly known: number;
  readonly missing: number;
}

const isBetter = (a: Score, b: Score): boolean => a.known > b.known || (a.known === b.known && a.missing < b.missing);

function score(model: Model, stored: ReadonlySet<string>): Score {
  const parameters = model.parameters.filter(({ isBuffer }) => !isBuffer);
  const forms = parameters.map(({ name }) => [...withoutNumbers(model.aliases(name))]);
  const known = new Set(forms.flat().filter((name) => stored.has(name)));
  const missing = new Set(forms.filter((aliases) => !aliases.some((name) => stored.has(name))).map(([name]) => name));
  return { known: known.size, missing: missing.size };
}
