import * as v from "valibot";
import { ConfigError } from "../base/errors";
import { count, layerCount, only, parseConfig, probability } from "./config";
import type { ImageSpec } from "./model";
import { imageOf, VISION_KEYS } from "./vision-encoder";
import type { Windows } from "./windows";

const { hidden_size: _width, num_hidden_layers: _layers, num_attention_heads: _heads, ...KEYS } = VISION_KEYS;

/** Stages: each has half as many tokens a side as the one before, and no published model has more than four. */
const stages = v.pipe(v.array(count), v.minLength(1), v.maxLength(8));

const SCHEMA = v.object({
  ...KEYS,
  embed_dim: v.optional(count, 96),
  depths: v.pipe(v.array(layerCount), v.minLength(1), v.maxLength(8)),
  num_heads: stages,
  window_size: v.optional(count, 7),
  /** Swin v2's; sides of the windows for which the positions were learned, 0 for those of this model. */
  pretrained_window_sizes: v.nullish(v.array(v.pipe(v.number(), v.integer(), v.minValue(0), v.notValue(1)))),
  patch_size: v.optional(count, 4),
  mlp_ratio: v.optional(v.pipe(v.number(), v.minValue(0)), 4),
  drop_path_rate: v.optional(probability, 0.1),
  layer_norm_eps: v.optional(v.number(), 1e-5),
  use_absolute_embeddings: only(false),
});

export type Config = v.InferOutput<typeof SCHEMA>;

/** Blocks of one width on one map of tokens. */
export interface Stage {
  readonly index: number;
  /** Number of the first block among those of all stages. */
  readonly first: number;
  readonly depth: number;
  readonly width: number;
  readonly heads: number;
  /** Windows of its first, third, ... block, and of the others, where they are shifted. */
  readonly windows: readonly [Windows, Windows];
  /** Side of the windows for which Swin v2's positions were learned. */
  readonly learnedWindow: number;
}

/** One of the two versions in a configuration. */
export interface Swin {
  readonly family: "swin" | "swinv2";
  readonly c: Config;
  readonly image: ImageSpec;
  readonly stages: readonly Stage[];
  readonly blocks: number;
}

/** @throws ConfigError for a value that is not supported, and for sizes that do not fit each other. */
export function swinOf(family: Swin["family"], config: Readonly<Record<string, unknown>>): Swin {
  const c = parseConfig(SCHEMA, config);
  // Other names of what other keys say.
  const stages = c.depths.length;
  const derived = {
    hidden_size: only(c.embed_dim * 2 ** (stages - 1)),
    num_layers: only(stages),
    num_hidden_layers: only(stages),
    num_attention_heads: v.nullish(v.strictTuple(c.num_heads.map((heads) => v.literal(heads)))),
  };
  parseConfig(v.object(derived), config);
  const image = imageOf(c);
  const sizes = { num_heads: c.num_heads, ...(family === "swinv2" && pretrainedSizes(c)) };
  for (const [key, { length }] of Object.entries(sizes)) {
    if (length >= c.depths.length) continue;
    throw new ConfigError(
      `config.json: ${key} has ${length} entries for ${c.depths.length} stages.`,
      "Correct config.json: depths has an entry for each stage.",
    );
  }
  const stagesOf: Stage[] = [];
  let side = image.size / image.patch;
  for (const [index, depth] of c.depths.entries()) {
    const { first, depth: before } = stagesOf.at(-1) ?? { first: 0, depth: 0 };
    const [width, heads] = [c.embed_dim * 2 ** index, c.num_heads[index]!];
    if (width % heads !== 0) {
      throw new ConfigError(
        `config.json: the width ${width} of stage ${index + 1} cannot be split into ${heads} heads.`,
        "num_heads must divide embed_dim, doubled from stage to stage.",
      );
    }
    const window = windowOf(family, c, { side, index });
    const isShifted = window < (family === "swin" ? side : nominalSide(c, index));
    const shift = isShifted ? Math.floor(c.window_size / 2) : 0;
    const learnedWindow = c.pretrained_window_sizes?.[index] || window;
    const windows = [0, shift].map((by) => ({ side, window, shift: by }));
    stagesOf.push({
      index,
      first: first + before,
      depth,
      width,
      heads,
      windows: [windows[0]!, windows[1]!],
      learnedWindow,
    });
    side = Math.ceil(side / 2);
  }
  const blocks = c.depths.reduce((sum, depth) => sum + depth, 0);
  parseConfig(v.object({ depths: layerCount }), { depths: blocks });
  return { family, c, image, stages: stagesOf, blocks };
}

const pretrainedSizes = ({ pretrained_window_sizes: sizes }: Config) =>
  sizes ? { pretrained_window_sizes: sizes } : {};

/** The side of a stage's map as transformers' Swin v2 computes it beforehand: without what fills up odd maps. */
const nominalSide = (c: Config, stage: number): number =>
  Math.max(1, Math.floor(c.image_size / c.patch_size / 2 ** stage));

/** The side of a stage's windows. Swin's table has the size of the configuration's; transformers cannot use it for less. */
function windowOf(
  family: Swin["family"],
  c: Config,
  { side, index }: { readonly side: number; readonly index: number },
): number {
  if (family === "swinv2") return Math.min(c.window_size, nominalSide(c, index));
  if (c.window_size <= side) return c.window_size;
  throw new ConfigError(
    `config.json: window_size ${c.window_size} exceeds the ${side} x ${side} tokens of stage ${index + 1}.`,
    "Swin's tables fit windows of window_size alone: correct it, or image_size.",
  );
}
