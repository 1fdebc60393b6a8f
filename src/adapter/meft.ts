import * as v from "valibot";
import { ConfigError } from "../base/errors";
import { checkSchema } from "../io/json";
import type { PeftConfig } from "../io/peft";
import { blocksOf } from "../model/blocks";
import type { Block } from "../model/blocks";
import { layerSection } from "../model/forward";
import type { Forward, LayerStack } from "../model/forward";
import type { Model } from "../model/model";
import { add } from "../ops/add";
import { scale } from "../ops/scale";
import { scaledAdd } from "../ops/scaled_add";
import type { Value } from "../tape/tape";
import type { Adapter } from "./adapter";
import { bottleneckOf, bottleneckTensors } from "./bottleneck-module";
import type { BottleneckSpec } from "./bottleneck-module";
import { chosenLayers, savedModuleTensors, taskType } from "./targets";
import type { LayerChoice } from "./targets";

export interface MeftOptions {
  /**
   * What the two functions of a layer are. 1: F is the layer with a bottleneck parallel to its feed-forward, G a bottleneck.
   * 2: the same two, F and G exchanged. 3: F is attention with a bottleneck behind it, G the feed-forward with a bottleneck
   * parallel to it. Default 1.
   */
  readonly variant?: 1 | 2 | 3;
  /** Width of the bottlenecks. Default 8. */
  readonly size?: number;
  /** Factor of the first stream. Default 0.1; of variant 2: 1. */
  readonly lambda?: number;
  /** Factor of the second stream. Default 0.1; of variant 1: 1. */
  readonly beta?: number;
  /** Layers that are reversible. The others carry both streams as well, but keep their activations. Default all. */
  readonly layers?: LayerChoice;
  /**
   * Layers between two states that are kept. Those between are rebuilt, each with 1 / (lambda beta) times the rounding error
   * of the one above. Default: as many as leave a relative error of 1e-3, which is 4 for variants 1 and 2, and 2 for 3.
   */
  readonly stateEvery?: number;
  /** Dropout within the bottlenecks. Default that of the model's sub-layers. */
  readonly dropout?: number;
  /** Modules of which all tensors are trained as well. Default the task's head. */
  readonly modulesToSave?: readonly string[];
}

const COUNT = v.pipe(v.number(), v.safeInteger(), v.minValue(1));
const FACTOR = v.pipe(v.number(), v.finite(), v.gtValue(0), v.maxValue(1));
const SCHEMA = v.object({
  peft_type: v.literal("SAFETAPE_MEFT"),
  variant: v.picklist([1, 2, 3]),
  bottleneck: COUNT,
  lambda: FACTOR,
  beta: FACTOR,
  /** Null for as many layers as leave the gradients right. */
  state_every: v.nullable(COUNT),
  /** Null for the dropout of the model's sub-layers. */
  adapter_dropout: v.nullable(v.pipe(v.number(), v.minValue(0), v.maxValue(0.999))),
  reversible_layers: v.optional(v.nullable(v.array(v.pipe(v.number(), v.safeInteger(), v.minValue(0)))), null),
  modules_to_save: v.optional(v.nullable(v.array(v.string())), null),
});
type MeftConfig = v.InferOutput<typeof SCHEMA>;

/** Factors [lambda, beta] of the published variants. */
const FACTORS: Readonly<Record<number, readonly [number, number]>> = { 1: [0.1, 1], 2: [1, 0.1], 3: [0.1, 0.1] };
/** Relative rounding error of a number in f32. */
const ROUNDING = 2 ** -24;
/** Relative error of a rebuilt state with which gradients are still right (cosine 1.0000 to the exact ones). */
const ALLOWED_ERROR = 1e-3;

/**
 * MEFT (Liao et al. 2023, "Make Pre-trained Model Reversible"): the hidden states are two streams x1 = x2 = h0, and a layer is
 * y1 = lambda x1 + F(x2), y2 = beta x2 + G(y1), after which variants 1 and 2 exchange the streams; the head reads their mean.
 * What enters a layer follows from what leaves it, x2 = (y2 - G(y1)) / beta and x1 = (y1 - F(x2)) / lambda, so that states are
 * rebuilt in the backward pass. Each division enlarges rounding errors: every few layers a true state is kept.
 *
 * Bottlenecks U act(D x + d) + u have the model's activation, weights from N(0, 0.02) and biases 0. The output is near that of
 * the original model at the start, but not equal to it (`startDeviation`).
 *
 * Keeps two hidden states for every `stateEvery` layers; all else of reversible layers is computed again.
 * Freezing lower layers returns their gradients and moments at once, and kept states in groups of `stateEvery` layers.
 * @throws FileFormatError for a variant other than 1 to 3, a factor outside (0, 1] or a count that is not a whole number from 1.
 */
export function meft(options: MeftOptions = {}): Adapter {
  const { variant = 1, size = 8, stateEvery = null, dropout = null, layers, modulesToSave } = options;
  const [lambda, beta] = FACTORS[variant] ?? [];
  const keys = {
    peft_type: "SAFETAPE_MEFT",
    variant,
    bottleneck: size,
    lambda: options.lambda ?? lambda,
    beta: options.beta ?? beta,
    state_every: stateEvery,
    adapter_dropout: dropout,
    modules_to_save: modulesToSave && [...modulesToSave],
  };
  return meftFromConfig(keys, "the MEFT configuration", layers);
}

/** MEFT by its adapter_config.json. @throws FileFormatError for a wrong value. */
export function meftFromConfig(value: PeftConfig, where: string, layers?: LayerChoice): Adapter {
  const config = checkSchema(SCHEMA, value, where);
  const reversibleLayers = (model: Model): number[] =>
    chosenLayers(layers ?? config.reversible_layers ?? everyLayer(model), model.layers);
  const heads = (model: Model): readonly string[] => config.modules_to_save ?? model.heads;
  const bottleneck = (model: Model, name: string): BottleneckSpec => ({
    name,
    size: config.bottleneck,
    activation: model.activation,
    dropout: config.adapter_dropout ?? model.hiddenDropout,
  });
  return {
    kind: "meft",
    tensors: (model) =>
      everyLayer(model).flatMap((layer) => {
        const { attention, feedForward } = subLayersOf(model, layer, config);
        const names =
          config.variant === 3 ? [inside(attention), inside(feedForward)] : [inside(feedForward), between(feedForward)];
        return names
          .flatMap((name) => bottleneckTensors({ name, size: config.bottleneck }, model.hiddenSize))
          .map((tensor) => ({ ...tensor, layer }));
      }),
    baseTensors: (model) => savedModuleTensors(model, heads(model)),
    block(forward, { name, layer, x, input }) {
      const { feedForward } = subLayersOf(forward.model, layer, config);
      const isParallel = name === feedForward.name;
      if (!isParallel && config.variant !== 3) return undefined;
      const change = bottleneckOf(forward, bottleneck(forward.model, inside({ name })), isParallel ? input : x);
      return forward.recorder.apply(add, { a: change, b: x }, {});
    },
    stack: (forward, x) =>
      streams(forward, x, config, new Set(reversibleLayers(forward.model)), (index, stream) => {
        const { feedForward } = subLayersOf(forward.model, index, config);
        return bottleneckOf(forward, bottleneck(forward.model, between(feedForward)), stream);
      }),
    peftConfig: (model) => ({
      ...config,
      reversible_layers: reversibleLayers(model),
      modules_to_save: [...heads(model)],
      task_type: taskType(model),
      inference_mode: true,
    }),
  };
}

const everyLayer = ({ layers }: Model): number[] => Array.from({ length: layers }, (_, layer) => layer);

/** Name of the bottleneck within a sub-layer. */
const inside = ({ name }: Pick<Block, "name">): string => `${name}.adapter`;
/** Name of the bottleneck that is a function of its own between the streams. */
const between = ({ name }: Pick<Block, "name">): string => `${name}.stream_adapter`;

/** Attention and feed-forward of a layer. @throws ConfigError where layers are not one after the other, or not equally wide. */
function subLayersOf(
  model: Model,
  layer: number | undefined,
  { variant }: MeftConfig,
): { attention: Block; feedForward: Block } {
  const [attention, feedForward] = blocksOf(model).filter((block) => block.layer === layer);
  const isRow = !model.encoderDecoder && !model.states;
  if (attention && feedForward && isRow && (variant !== 3 || model.parts)) return { attention, feedForward };
  throw new ConfigError(
    `The layers of this ${model.family} model are not attention followed by a feed-forward of one width.`,
    'Use a method that leaves the layers as they are, such as lora() with recompute: "layers".',
  );
}

/** Layers between two kept states: as many as keep the error of the lowest rebuilt state small enough. */
function layersBetweenStates({ lambda, beta, state_every: every }: MeftConfig): number {
  return every ?? Math.max(1, Math.floor(Math.log(ALLOWED_ERROR / ROUNDING) / Math.abs(Math.log(lambda * beta))));
}

/** A function between the streams, of a layer's number and a stream. */
type StreamFunction = (index: number, stream: Value) => Value;

/** @param alone the function that is a bottleneck alone. */
function streams(
  forward: Forward,
  x: Value,
  config: MeftConfig,
  reversible: ReadonlySet<number>,
  alone: StreamFunction,
): LayerStack {
  const { recorder, model } = forward;
  const { variant, lambda, beta } = config;
  const every = layersBetweenStates(config);
  const layer: StreamFunction = (index, stream) => model.layer(forward, index, stream);
  const functions: Readonly<Record<MeftConfig["variant"], readonly [StreamFunction, StreamFunction]>> = {
    1: [layer, alone],
    2: [alone, layer],
    3: [
      (index, stream) => model.parts!.attention(forward, index, stream),
      (index, stream) => model.parts!.feedForward(forward, index, stream),
    ],
  };
  const [f, g] = functions[variant];
  const isKept = (index: number): boolean => {
    let [first, above] = [index, index + 1];
    while (reversible.has(first - 1)) first--;
    while (reversible.has(above)) above++;
    // What enters the lowest layer is needed by one function alone, for which it may be rebuilt once more.
    return (above - index) % every === 0 && (every === 1 || index > first);
  };
  let [x1, x2] = [x, x];
  return {
    layer(index) {
      const [first, second] = [x1, x2];
      const isReversible = reversible.has(index);
      const half = (name: string, stream: Value, factor: number, change: () => Value): Value => {
        const section = `${name} of ${layerSection(index)}`;
        const record = (): Value => {
          const b = change();
          return recorder.labelled(section, () => recorder.apply(scaledAdd, { a: stream, b }, { factor }));
        };
        return isReversible ? recorder.reversibleSection(section, record) : record();
      };
      recorder.section(layerSection(index), () => {
        const y1 = half("F", first, lambda, () => f(index, second));
        const y2 = half("G", second, beta, () => g(index, y1));
        if (isReversible && !isKept(index)) {
          if (first !== second) recorder.rebuild(first, y1);
          recorder.rebuild(second, y2);
        }
        [x1, x2] = variant === 3 ? [y1, y2] : [y2, y1];
      });
    },
    hidden: () =>
      recorder.labelled("mean of the streams", () => {
        const sum = recorder.apply(add, { a: x1, b: x2 }, {});
        return recorder.apply(scale, { x: sum }, { factor: 0.5 });
      }),
  };
}
