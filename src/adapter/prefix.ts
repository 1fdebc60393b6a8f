import * as v from "valibot";
import { ConfigError, ShapeError } from "../base/errors";
import { formatShape, sameShape } from "../base/shape";
import { checkSchema } from "../io/json";
import type { PeftConfig } from "../io/peft";
import { entryOf } from "../io/safetensors";
import type { FloatTensor } from "../io/safetensors";
import { behindPrefix, headsIn } from "../model/forward";
import type { Forward } from "../model/forward";
import type { Model, ProjectionRole } from "../model/model";
import { attention } from "../ops/attention";
import { prepend } from "../ops/prepend";
import { takeColumns } from "../ops/take_columns";
import { tanh } from "../ops/tanh";
import type { Value } from "../tape/tape";
import type { Adapter, AdapterTensor, Tensors } from "./adapter";
import { constant, normal } from "./initial";
import type { NewTensor } from "./initial";
import {
  checkReadsTexts,
  computeLayer,
  COUNT,
  EMBEDDINGS,
  layerTensors,
  PROMPT_KEYS,
  promptFiles,
  recordLayer,
} from "./prompt-file";

export interface PrefixOptions {
  /** Keys and values before those of each text, in every layer. Default 20. */
  readonly tokens?: number;
  /**
   * Whether embeddings and a network of two layers, with tanh between them, make the keys and values of all layers while they
   * learn (PEFT's `prefix_projection`); only what they make is saved. Default false.
   */
  readonly projection?: boolean;
  /** Width between the two layers of that network. Default that of keys. */
  readonly encoderSize?: number;
  /** Initial keys and values: from N(0, 1), or zeros (PEFT's `init_weights`). Default "random". */
  readonly initial?: "random" | "zero";
  /** Modules of which all tensors are trained as well. Default the task's head. */
  readonly modulesToSave?: readonly string[];
}

const SCHEMA = v.object({
  peft_type: v.literal("PREFIX_TUNING"),
  ...PROMPT_KEYS,
  prefix_projection: v.optional(v.nullable(v.boolean()), false),
  encoder_hidden_size: v.optional(v.nullable(COUNT), null),
  init_weights: v.optional(v.nullable(v.literal("zero")), null),
});

type Config = v.InferOutput<typeof SCHEMA>;

/** The embeddings and the first layer of the network that makes keys and values. */
const [EMBEDDING, HIDDEN] = ["prefix.embedding", "prefix.hidden"];

/** Names of what makes the keys and the values of a layer, in the order in which PEFT's tensor has them. */
const partsOf = (layer: number): readonly string[] =>
  ["keys", "values"].map((part) => `prefix.layers.${layer}.${part}`);

/**
 * Prefix tuning (Li and Liang 2021), with the head of a classifier P-tuning v2 (Liu et al. 2022): n keys and values before those
 * of each text learn in every layer. They are not rotated, no window may end before the last of them, and positions of texts
 * begin behind them, as in transformers.
 *
 * Keeps nothing in addition: their gradients are sums, over a batch, of those of attention's keys and values. With `projection`, what
 * all layers share freezes with the lowest one.
 * @throws ConfigError for a family to which PEFT cannot give a prefix.
 */
export function prefixTuning(options: PrefixOptions = {}): Adapter {
  const { tokens = 20, projection = false, encoderSize = null, initial = "random", modulesToSave } = options;
  if (!["random", "zero"].includes(initial)) {
    throw new ConfigError(`prefixTuning: initial is ${initial}.`, 'Give "random" or "zero".');
  }
  if (encoderSize !== null && !projection) {
    throw new ConfigError(
      "prefixTuning: encoderSize belongs to a projection.",
      "Leave it out, or give projection: true.",
    );
  }
  const keys = {
    peft_type: "PREFIX_TUNING",
    num_virtual_tokens: tokens,
    modules_to_save: modulesToSave && [...modulesToSave],
    prefix_projection: projection,
    encoder_hidden_size: encoderSize,
    init_weights: initial === "zero" ? "zero" : null,
  };
  return prefixAdapter(checkSchema(SCHEMA, keys, "the prefix tuning configuration"), projection);
}

/** Prefix tuning by its adapter_config.json. @throws FileFormatError for a wrong value. */
export const prefixFromConfig = (value: PeftConfig, where: string): Adapter =>
  // A file has what a projection made, and not the projection.
  prefixAdapter(checkSchema(SCHEMA, value, where), false);

function prefixAdapter(config: Config, isProjected: boolean): Adapter {
  const count = config.num_virtual_tokens;
  const isZero = config.init_weights === "zero";
  const hiddenSize = (width: number): number => config.encoder_hidden_size ?? width;
  const partTensors = (name: string, width: number): NewTensor[] => {
    if (!isProjected) return [isZero ? constant(name, [count, width], 0) : normal(name, [count, width], 1)];
    const tensors = layerTensors(name, hiddenSize(width), width);
    return isZero ? tensors.map((tensor) => constant(tensor.name, tensor.shape, 0)) : tensors;
  };
  const sharedTensors = (width: number): NewTensor[] =>
    isProjected ? [normal(EMBEDDING, [count, width], 1), ...layerTensors(HIDDEN, width, hiddenSize(width))] : [];
  const hidden = (forward: Forward, width: number): Value =>
    forward.once(HIDDEN, () => {
      const embedding = forward.recorder.parameter(EMBEDDING, [count, width]);
      return forward.recorder.apply(tanh, { x: recordLayer(forward, HIDDEN, embedding, hiddenSize(width)) }, {});
    });
  return {
    kind: "prefix_tuning",
    prefixTokens: count,
    ...promptFiles(config, {
      config: (model) => ({
        peft_type: config.peft_type,
        token_dim: keyWidth(model),
        num_attention_heads: model.prefixHeads,
        prefix_projection: config.prefix_projection,
        encoder_hidden_size: hiddenSize(keyWidth(model)),
        init_weights: config.init_weights,
      }),
      tensors(model) {
        checkTakesPrefix(model);
        const width = keyWidth(model);
        const placed = (tensors: readonly NewTensor[], layer: AdapterTensor["layer"]): AdapterTensor[] =>
          tensors.map((tensor) => ({ ...tensor, layer }));
        return [
          ...placed(sharedTensors(width), "below"),
          ...layersOf(model).flatMap((layer) =>
            placed(
              partsOf(layer).flatMap((name) => partTensors(name, width)),
              layer,
            ),
          ),
        ];
      },
      saved(model, tensors) {
        const input = isProjected
          ? computeLayer(tensors, HIDDEN, entryOf(tensors, EMBEDDING, "the adapter"), Math.tanh)
          : undefined;
        return sideBySide(
          layersOf(model)
            .flatMap(partsOf)
            .map((name) => (input ? computeLayer(tensors, name, input) : entryOf(tensors, name, "the adapter"))),
        );
      },
      loaded(model, saved, where) {
        checkTakesPrefix(model);
        const names = layersOf(model).flatMap(partsOf);
        const shape = [count, names.length * keyWidth(model)];
        if (sameShape(saved.shape, shape)) return partsByName(saved, names);
        throw new ShapeError(
          `${EMBEDDINGS} is ${formatShape(saved.shape)} in ${where}, but ${formatShape(shape)} for this model.`,
          "Load the model that the adapter was trained on.",
        );
      },
    }),
    prefixed(forward, site) {
      const { name: module, layer, inputs, shape, cache } = site;
      const { recorder } = forward;
      if ((shape.window ?? count) < count) {
        throw new ConfigError(
          `A prefix of ${count} keys does not go with this model's window of ${shape.window} keys.`,
          "Give a shorter prefix.",
        );
      }
      const [q, k, v] = inputs.length === 1 ? thirds(forward, inputs[0]!) : inputs;
      const width = k!.shape.at(-1)!;
      const [keys, values] = partsOf(layer).map((name) =>
        isProjected
          ? recordLayer(forward, name, hidden(forward, width), width)
          : recorder.parameter(name, [count, width]),
      );
      const behind = (head: Value, x: Value): Value =>
        recorder.labelled(`prefix.layers.${layer}`, () => recorder.apply(prepend, { head, x }, {}));
      const sites = { q: q!, k: behind(keys!, k!), v: behind(values!, v!) };
      const sizes = { ...shape, heads: headsIn(q!, shape), kvHeads: headsIn(k!, shape) };
      return recorder.labelled(module, () => {
        if (cache) {
          const added = { q: sites.q, k: [sites.k, 0], v: [sites.v, 0], prefix: count } as const;
          return cache.attend(recorder, module, added, cache, sizes);
        }
        const mask = recorder.input(behindPrefix("attention_mask"), sites.k.shape.slice(0, 2), "i32");
        return recorder.apply(
          attention,
          { ...sites, mask, seed: forward.seed },
          { ...site.attributes(sizes), prefix: count },
        );
      });
    },
  };
}

/** Queries, keys and values [b, t, d] of a tensor [b, t, 3 d] that has them side by side. */
function thirds({ recorder }: Forward, x: Value): Value[] {
  const size = x.shape.at(-1)! / 3;
  return [0, size, 2 * size].map((offset) =>
    recorder.apply(takeColumns, { x }, { offset, size, groups: 1, stride: size }),
  );
}

const layersOf = ({ layers }: Model): number[] => Array.from({ length: layers }, (_, layer) => layer);

/** Elements of a token's keys in a layer. */
function keyWidth({ projections }: Model): number {
  const sizes = (role: ProjectionRole) => projections.find((each) => each.layer === 0 && each.role === role);
  const [all, output] = [sizes("query_key_value"), sizes("attention_output")];
  // One projection gives queries, as wide as what attention gives out, keys and values.
  return sizes("key")?.out ?? (all!.out - output!.in) / 2;
}

/** @throws ConfigError for a model whose attention takes no keys before those of a text. */
function checkTakesPrefix(model: Model): void {
  checkReadsTexts(model);
  if (model.prefixHeads !== undefined) return;
  throw new ConfigError(
    model.encoderDecoder
      ? `PEFT gives the layers of an encoder-decoder (${model.family}) the prefixes of other layers, and leaves some out.`
      : `transformers' ${model.family} takes no keys and values before those of a text, so that PEFT has no prefix tuning for it.`,
    "Use prompt tuning, or an adapter of its projections, such as lora().",
  );
}

/** Tensors [n, d] beside each other: [n, d of all]. */
function sideBySide(parts: readonly FloatTensor[]): FloatTensor {
  const [rows = 0, width = 0] = parts[0]?.shape ?? [];
  const data = new Float32Array(rows * width * parts.length);
  parts.forEach((part, i) => {
    for (let row = 0; row < rows; row++) {
      data.set(part.data.subarray(row * width, (row + 1) * width), (row * parts.length + i) * width);
    }
  });
  return { shape: [rows, width * parts.length], data };
}

/** The reverse of `sideBySide`: the parts by their names. */
function partsByName({ shape, data }: FloatTensor, names: readonly string[]): Tensors {
  const [rows = 0, all = 0] = shape;
  const width = all / names.length;
  return new Map(
    names.map((name, i) => {
      const part = Float32Array.from(
        { length: rows * width },
        (_, at) => data[Math.floor(at / width) * all + i * width + (at % width)]!,
      );
      return [name, { shape: [rows, width], data: part }] as const;
    }),
  );
}
