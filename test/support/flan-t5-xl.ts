import type { Model, Projection, ProjectionRole } from "safetape";

/** Facts of FLAN-T5-XL's config.json. */
const [HIDDEN, HEADS, HEAD_SIZE, NEURONS, BLOCKS, TOKENS] = [2048, 32, 64, 5120, 24, 32_128];

/**
 * The modules of FLAN-T5-XL, for counts of what adapters add to it: the layers are the blocks of the encoder, then those of
 * the decoder. It has no biases. It cannot be traced.
 */
export function flanT5Xl(): Model {
  const untraced = (): never => {
    throw new Error("FLAN-T5-XL is here to be counted only.");
  };
  return {
    family: "t5",
    task: "causal_lm",
    config: { model_type: "t5" },
    parameters: [],
    projections: [...projectionsOf("encoder", 0), ...projectionsOf("decoder", BLOCKS)],
    layers: 2 * BLOCKS,
    hiddenSize: HIDDEN,
    vocabularySize: TOKENS,
    maxLength: 512,
    classes: TOKENS,
    padId: 0,
    activation: "gelu_tanh",
    hiddenDropout: 0.1,
    heads: [],
    defaultTargets: ["q", "v"],
    aliases: (name) => [name],
    ignores: () => false,
    wordEmbeddings: "shared.weight",
    structures: () => [],
    embed: untraced,
    layer: untraced,
    head: untraced,
  };
}

function projectionsOf(stack: "encoder" | "decoder", firstLayer: number): Projection[] {
  const attentions = stack === "encoder" ? ["SelfAttention"] : ["SelfAttention", "EncDecAttention"];
  const inner = HEADS * HEAD_SIZE;
  return Array.from({ length: BLOCKS }, (_, block) => {
    const dense = (role: ProjectionRole, module: string, from: number, to: number): Projection => {
      const name = `${stack}.block.${block}.layer.${module}`;
      return { name, in: from, out: to, layout: "out_in", bias: false, layer: firstLayer + block, role };
    };
    const feedForward = `${attentions.length}.DenseReluDense`;
    return [
      ...attentions.flatMap((attention, i) => [
        dense("query", `${i}.${attention}.q`, HIDDEN, inner),
        dense("key", `${i}.${attention}.k`, HIDDEN, inner),
        dense("value", `${i}.${attention}.v`, HIDDEN, inner),
        dense("attention_output", `${i}.${attention}.o`, inner, HIDDEN),
      ]),
      dense("feed_forward_in", `${feedForward}.wi_0`, HIDDEN, NEURONS),
      dense("feed_forward_in", `${feedForward}.wi_1`, HIDDEN, NEURONS),
      dense("feed_forward_out", `${feedForward}.wo`, NEURONS, HIDDEN),
    ];
  }).flat();
}
