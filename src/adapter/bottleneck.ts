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
  /** Width of the bottleneck; default the hidden size over 16, as in AdapterHub. */
  readonly size?: number;
  /** Layers to adapt; default all. */
  readonly layers?: LayerChoice;
  /** Whole modules to train as well; default the task's head. */
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

const DEVIATION = 0.02;
const REDUCTION = 16;

/**
 * Houlsby's adapters (Houlsby et al. 2019, section 2.1): after attention and after the feed-forward sub-layer, before the
 * residual, h + U silu(D h + d) + u, with D and U from N(0, 0.02) and zero biases, as AdapterHub starts them. Norms stay
 * as they are.
 *
 * Keeps per adapter its input h and the bottleneck's pre-activation, while D learns.
 */
export function houlsby(options: BottleneckOptions = {}): Adapter {
  return bottleneck("every", "silu", options);
}

/**
 * Pfeiffer's adapters (Pfeiffer et al. 2021): as `houlsby`, after the feed-forward sub-layer alone, with relu. AdapterHub
 * also feeds the layer's norm into the adapter; here it acts on the sub-layer's output, as in the reference runs.
 */
export function pfeiffer(options: BottleneckOptions = {}): Adapter {
  return bottleneck("last", "relu", options);
}

function bottleneck(
  placement: "every" | "last",
  activation: "relu" | "silu",
  { size, layers, modulesToSave }: BottleneckOptions,
): Adapter {
  const config = {
    peft_type: "SAFETAPE_BOTTLENECK",
    placement,
    activation,
    bottleneck: size ?? null,
    ...(modulesToSave === undefined ? {} : { modules_to_save: [...modulesToSave] }),
  };
  return bottleneckFromConfig(config, "the bottleneck configuration", layers);
}

/** Bottleneck adapters as their own adapter_config.json describes them. @throws FileFormatError for a wrong value. */
export function bottleneckFromConfig(told: PeftConfig, where: string, choice?: LayerChoice): Adapter {
  const config = checkSchema(SCHEMA, told, where);
  const sizeOf = (model: Model): number => config.bottleneck ?? Math.max(1, Math.floor(model.hiddenSize / REDUCTION));
  const layersOf = (model: Model): number[] | null =>
    choice === undefined ? config.layers_to_transform : chosenLayers(choice, model.layers);
  const heads = (model: Model): readonly string[] => config.modules_to_save ?? model.heads;
  const blocks = (model: Model): Block[] => {
    const layers = layersOf(model);
    const inLayers = blocksOf(model).filter(({ layer }) => layers === null || layers.includes(layer));
    const isLast = ({ layer }: Block, i: number): boolean => inLayers[i + 1]?.layer !== layer;
    const chosen = config.placement === "every" ? inLayers : inLayers.filter(isLast);
    if (chosen.length > 0) return chosen;
    throw new ConfigError(`No layer of this ${model.family} model is adapted.`, "Name layers that it has.");
  };
  const names = new WeakMap<Model, ReadonlySet<string>>();
  const isAdapted = (model: Model, name: string): boolean => {
    const found = names.get(model) ?? new Set(blocks(model).map((block) => block.name));
    names.set(model, found);
    return found.has(name);
  };
  return {
    kind: config.placement === "every" ? "houlsby" : "pfeiffer",
    tensors: (model) =>
      blocks(model).flatMap(({ name, layer, width }) =>
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
