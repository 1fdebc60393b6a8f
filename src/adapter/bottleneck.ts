import * as v from "valibot";
import { ConfigError } from "../base/errors";
import { checkSchema } from "../io/json";
import type { PeftConfig } from "../io/peft";
import { blocksOf } from "../model/blocks";
import type { Block } from "../model/blocks";
import type { Forward } from "../model/forward";
import type { Model } from "../model/model";
import { add } from "../ops/add";
import { gelu } from "../ops/gelu";
import { linear } from "../ops/linear";
import { relu } from "../ops/relu";
import { silu } from "../ops/silu";
import type { Value } from "../tape/tape";
import type { Adapter } from "./adapter";
import { constant, normal } from "./initial";
import { chosenLayers, savedModuleTensors, taskType } from "./targets";
import type { LayerChoice } from "./targets";

export interface BottleneckOptions {
  /** Width of the bottleneck. Default the hidden size divided by 16, as in AdapterHub. */
  readonly size?: number;
  /** Layers to adapt. Default all. */
  readonly layers?: LayerChoice;
  /** Modules of which all tensors are trained as well. Default the task's head. */
  readonly modulesToSave?: readonly string[];
}

const SCHEMA = v.object({
  peft_type: v.literal("SAFETAPE_BOTTLENECK"),
  /** After every sub-layer of a transformer layer, or after the last one. */
  placement: v.picklist(["every", "last"]),
  activation: v.picklist(["relu", "silu", "gelu"]),
  bottleneck: v.nullable(v.pipe(v.number(), v.safeInteger(), v.minValue(1))),
  layers_to_transform: v.optional(v.nullable(v.array(v.number())), null),
  modules_to_save: v.optional(v.nullable(v.array(v.string())), null),
});

/** Standard deviation of initial weights. */
const DEVIATION = 0.02;
/** Hidden size over the default width of the bottleneck. */
const REDUCTION = 16;

/**
 * Houlsby's adapters (Houlsby et al. 2019, section 2.1): h + U silu(D h + d) + u after attention and after the feed-forward
 * sub-layer, before the residual. D [size, width] and U [width, size] start from N(0, 0.02), the biases d and u from zero,
 * as in AdapterHub. Norms are not trained.
 *
 * Keeps, for each adapter, its input h and the bottleneck's pre-activation, while D learns.
 * @throws FileFormatError for a size that is not a whole number from 1.
 */
export function houlsby(options: BottleneckOptions = {}): Adapter {
  return bottleneck("every", "silu", options);
}

/**
 * Pfeiffer's adapters (Pfeiffer et al. 2021): those of `houlsby` after the feed-forward sub-layer alone, with relu. In
 * AdapterHub the adapter also sees the layer's norm; here it acts on the sub-layer's output, as in the golden runs.
 * @throws FileFormatError for a size that is not a whole number from 1.
 */
export function pfeiffer(options: BottleneckOptions = {}): Adapter {
  return bottleneck("last", "relu", options);
}

function bottleneck(
  placement: "every" | "last",
  activation: "relu" | "silu",
  { size, layers, modulesToSave }: BottleneckOptions,
): Adapter {
  const keys = {
    peft_type: "SAFETAPE_BOTTLENECK",
    placement,
    activation,
    bottleneck: size ?? null,
    modules_to_save: modulesToSave && [...modulesToSave],
  };
  return bottleneckFromConfig(keys, "the bottleneck configuration", layers);
}

/** Bottleneck adapters by their adapter_config.json. @throws FileFormatError for a wrong value. */
export function bottleneckFromConfig(value: PeftConfig, where: string, layers?: LayerChoice): Adapter {
  const config = checkSchema(SCHEMA, value, where);
  const sizeOf = (model: Model): number => config.bottleneck ?? Math.max(1, Math.floor(model.hiddenSize / REDUCTION));
  const layersOf = (model: Model): number[] | null =>
    layers === undefined ? config.layers_to_transform : chosenLayers(layers, model.layers);
  const heads = (model: Model): readonly string[] => config.modules_to_save ?? model.heads;
  const adaptedBlocks = (model: Model): Block[] => {
    const numbers = layersOf(model);
    const inLayers = blocksOf(model).filter(({ layer }) => numbers === null || numbers.includes(layer));
    const isLast = ({ layer }: Block, i: number): boolean => inLayers[i + 1]?.layer !== layer;
    const blocks = config.placement === "every" ? inLayers : inLayers.filter(isLast);
    if (blocks.length > 0) return blocks;
    throw new ConfigError(`No layer of this ${model.family} model is adapted.`, "Name layers that it has.");
  };
  const namesByModel = new WeakMap<Model, ReadonlySet<string>>();
  const isAdapted = (model: Model, name: string): boolean => {
    const names = namesByModel.get(model) ?? new Set(adaptedBlocks(model).map((block) => block.name));
    namesByModel.set(model, names);
    return names.has(name);
  };
  return {
    kind: config.placement === "every" ? "houlsby" : "pfeiffer",
    tensors: (model) =>
      adaptedBlocks(model).flatMap(({ name, layer, width }) =>
        [
          normal(`${name}.adapter_down.weight`, [sizeOf(model), width], DEVIATION),
          constant(`${name}.adapter_down.bias`, [sizeOf(model)], 0),
          normal(`${name}.adapter_up.weight`, [width, sizeOf(model)], DEVIATION),
          constant(`${name}.adapter_up.bias`, [width], 0),
        ].map((tensor) => ({ ...tensor, layer })),
      ),
    baseTensors: (model) => savedModuleTensors(model, heads(model)),
    block(forward, { name, x }) {
      if (!isAdapted(forward.model, name)) return undefined;
      const size = sizeOf(forward.model);
      const width = x.shape.at(-1)!;
      const down = project(forward, `${name}.adapter_down`, x, [size, width]);
      const active = activate(forward, config.activation, down);
      const up = project(forward, `${name}.adapter_up`, active, [width, size]);
      return forward.recorder.apply(add, { a: up, b: x }, {});
    },
    peftConfig: (model) => ({
      ...config,
      bottleneck: sizeOf(model),
      layers_to_transform: layersOf(model),
      modules_to_save: [...heads(model)],
      task_type: taskType(model),
      inference_mode: true,
    }),
  };
}

function project({ recorder }: Forward, name: string, x: Value, shape: readonly [number, number]): Value {
  const w = recorder.parameter(`${name}.weight`, shape);
  const bias = recorder.parameter(`${name}.bias`, [shape[0]]);
  return recorder.apply(linear, { x, w, bias }, { layout: "out_in" });
}

function activate({ recorder }: Forward, activation: "relu" | "silu" | "gelu", x: Value): Value {
  if (activation === "gelu") return recorder.apply(gelu, { x }, { approximation: "none" });
  return recorder.apply(activation === "relu" ? relu : silu, { x }, {});
}
