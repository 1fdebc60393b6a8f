import type { Engine } from "safetape";
import { Random } from "../../src/base/random";
import { Uploader } from "../../src/io/upload";
import { LoadedModel } from "../../src/io/load-model";
import { normParameters, projectionParameters } from "../../src/model/model";
import type { Model, ParameterSpec, Projection, ProjectionRole } from "../../src/model/model";
import { gelu } from "../../src/ops/gelu";
import { linear } from "../../src/ops/linear";
import type { Tensor } from "../../src/tensor";

const [LAYERS, WIDTH, NEURONS, TOKENS, HEADS] = [4, 32, 64, 50, 4];

/** A small pre-norm language model of an invented family, whose layers are called `blocks.N.`. */
export function blocksFamily(): Model {
  const projections = Array.from({ length: LAYERS }, (_, layer) => {
    const dense = (role: ProjectionRole, module: string, from: number, to: number): Projection => {
      return { name: `blocks.${layer}.${module}`, in: from, out: to, layout: "out_in", bias: true, layer, role };
    };
    return [
      dense("query", "query", WIDTH, WIDTH),
      dense("key", "key", WIDTH, WIDTH),
      dense("value", "value", WIDTH, WIDTH),
      dense("attention_output", "mixed", WIDTH, WIDTH),
      dense("feed_forward_in", "wide", WIDTH, NEURONS),
      dense("feed_forward_out", "narrow", NEURONS, WIDTH),
    ];
  }).flat();
  const norms = Array.from({ length: LAYERS }, (_, layer) => [
    ...normParameters(`blocks.${layer}.norm_1`, WIDTH, layer),
    ...normParameters(`blocks.${layer}.norm_2`, WIDTH, layer),
  ]).flat();
  const tokens: ParameterSpec = { name: "tokens", shape: [TOKENS, WIDTH], layer: "below" };
  return {
    family: "blocks",
    task: "causal_lm",
    config: { model_type: "blocks" },
    parameters: [tokens, ...projections.flatMap((projection) => projectionParameters(projection)), ...norms],
    projections,
    layers: LAYERS,
    hiddenSize: WIDTH,
    vocabularySize: TOKENS,
    maxLength: 64,
    classes: TOKENS,
    padId: 0,
    activation: "gelu",
    hiddenDropout: 0,
    heads: [],
    defaultTargets: ["query", "value"],
    aliases: (name) => [name],
    ignores: () => false,
    structures: () => [],
    embed: (forward) => forward.tokenEmbeddings(forward.parameter("tokens")),
    layer(forward, index, x) {
      const block = `blocks.${index}`;
      const inner = forward.layerNorm(`${block}.norm_1`, x, 1e-5);
      const project = (module: string) => forward.linear(`${block}.${module}`, inner);
      const attention = { headSize: WIDTH / HEADS, causal: true, dropout: 0.1 };
      const qkv = { q: project("query"), k: project("key"), v: project("value") };
      const mixed = forward.linear(`${block}.mixed`, forward.attention(block, qkv, attention));
      const attended = forward.block({ name: `${block}.attention`, layer: index, x: mixed, input: inner, residual: x });
      const input = forward.layerNorm(`${block}.norm_2`, attended, 1e-5);
      const narrow = forward.feedForward(index, () => {
        const wide = forward.linear(`${block}.wide`, input);
        return forward.linear(`${block}.narrow`, forward.recorder.apply(gelu, { x: wide }, { approximation: "none" }));
      });
      return forward.block({ name: `${block}.feed_forward`, layer: index, x: narrow, input, residual: attended });
    },
    head: (forward, x) => forward.recorder.apply(linear, { x, w: forward.parameter("tokens") }, { layout: "out_in" }),
  };
}

/** A family's model with random weights: matrices from N(0, 0.1), norms 1, biases 0. */
export async function randomModel(engine: Engine, model: Model): Promise<LoadedModel> {
  const random = new Random(3);
  const uploader = new Uploader(engine.device, "random weights");
  const weights = new Map<string, Tensor>();
  for (const parameter of model.parameters) {
    const { name, shape } = parameter;
    const value = (): number => (shape.length === 2 ? random.normal() / 10 : Number(name.endsWith(".weight")));
    const source = (first: number, end: number) => Float32Array.from({ length: end - first }, value);
    weights.set(name, (await uploader.upload(parameter, source)).tensor);
  }
  return new LoadedModel(engine, model, weights, "random weights", [], new Set(), []);
}
