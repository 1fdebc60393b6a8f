import * as v from "valibot";
import { ConfigError } from "../base/errors";
import { checkSchema } from "../io/json";
import type { PeftConfig } from "../io/peft";
import { blocksOf } from "../model/blocks";
import type { Block } from "../model/blocks";
import type { BlockSite, Forward } from "../model/forward";
import { normTensors } from "../model/model";
import type { Model } from "../model/model";
import { add } from "../ops/add";
import type { Value } from "../tape/tape";
import type { Adapter } from "./adapter";
import { bottleneckOf, bottleneckTensors } from "./bottleneck-module";
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

export interface HoulsbyOptions extends BottleneckOptions {
  /**
   * Whether norms learn as well, as in the paper: those of the adapted layers, and all of the model where no `layers` are
   * named. Default false, as in AdapterHub.
   */
  readonly trainsNorms?: boolean;
}

/** Where Pfeiffer's adapters act: as AdapterHub places them, or on the sub-layer's output. */
export type PfeifferPlacement = (typeof PFEIFFER_PLACEMENTS)[number];
/** Every placement of Pfeiffer's adapters. */
export const PFEIFFER_PLACEMENTS = ["adapterhub", "output"] as const;

export interface PfeifferOptions extends BottleneckOptions {
  /** Default "adapterhub". */
  readonly placement?: PfeifferPlacement;
}

const SCHEMA = v.object({
  peft_type: v.literal("SAFETAPE_BOTTLENECK"),
  /** After every sub-layer of a transformer layer, or after the last one. */
  placement: v.picklist(["every", "last"]),
  activation: v.picklist(["relu", "silu", "gelu"]),
  bottleneck: v.nullable(v.pipe(v.number(), v.safeInteger(), v.minValue(1))),
  /** AdapterHub's key: whether a bottleneck reads the sub-layer's output with its residual, after the norm if one follows. */
  original_ln_before: v.optional(v.boolean(), false),
  trains_norms: v.optional(v.boolean(), false),
  layers_to_transform: v.optional(v.nullable(v.array(v.number())), null),
  modules_to_save: v.optional(v.nullable(v.array(v.string())), null),
});

/** Hidden size over the default width of the bottleneck. */
const REDUCTION = 16;

/**
 * Houlsby's adapters (Houlsby et al. 2019, section 2.1): h + U silu(D h + d) + u in place of a sub-layer's output h, after
 * attention and after the feed-forward, before the residual. D [size, width] and U [width, size] start from N(0, 0.02), the
 * biases d and u from zero, as in AdapterHub (`double_seq_bn`). The paper trains the norms, too: `trainsNorms`.
 *
 * Keeps, for each adapter, its input h and the bottleneck's pre-activation, while D learns; and the input of each norm that
 * learns.
 * @throws FileFormatError for a size that is not a whole number from 1.
 */
export function houlsby({ trainsNorms, ...options }: HoulsbyOptions = {}): Adapter {
  return bottleneck({ placement: "every", activation: "silu", trains_norms: trainsNorms }, options);
}

/**
 * Pfeiffer's adapters (Pfeiffer et al. 2021): h + U relu(D z + d) + u in place of the feed-forward's output h alone, with the
 * start of `houlsby`. As AdapterHub places them (`seq_bn`), z is the sum of h and its residual, in post-norm models after the
 * layer's norm, which follows the adapter once more. With `placement: "output"`, z is h.
 *
 * Keeps, for each adapter, z and the bottleneck's pre-activation, while D learns.
 * @throws ConfigError for an unknown placement, FileFormatError for a size that is not a whole number from 1.
 */
export function pfeiffer({ placement = "adapterhub", ...options }: PfeifferOptions = {}): Adapter {
  if (!PFEIFFER_PLACEMENTS.includes(placement)) {
    throw new ConfigError(
      `The placement of Pfeiffer's adapters is ${JSON.stringify(placement)}.`,
      `It may be ${PFEIFFER_PLACEMENTS.join(", ")}.`,
    );
  }
  const keys = { placement: "last", activation: "relu", original_ln_before: placement === "adapterhub" };
  return bottleneck(keys, options);
}

function bottleneck(keys: Record<string, unknown>, { size, layers, modulesToSave }: BottleneckOptions): Adapter {
  const config = {
    ...keys,
    peft_type: "SAFETAPE_BOTTLENECK",
    bottleneck: size ?? null,
    modules_to_save: modulesToSave && [...modulesToSave],
  };
  return bottleneckFromConfig(config, "the bottleneck configuration", layers);
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
    const inLayers = blocksOf(model).filter(
      ({ layer }) => numbers === null || (layer !== undefined && numbers.includes(layer)),
    );
    const isLast = ({ layer }: Block, i: number): boolean =>
      i + 1 === inLayers.length || inLayers[i + 1]?.layer !== layer;
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
        bottleneckTensors({ name: `${name}.adapter`, size: sizeOf(model) }, width).map((tensor) => ({
          ...tensor,
          layer,
        })),
      ),
    baseTensors(model) {
      const norms = config.trains_norms ? normTensors(model, layersOf(model) ?? undefined) : [];
      return [...new Set([...savedModuleTensors(model, heads(model)), ...norms.map(({ name }) => name)])];
    },
    block(forward, site) {
      const { name, x } = site;
      if (!isAdapted(forward.model, name)) return undefined;
      const spec = { name: `${name}.adapter`, size: sizeOf(forward.model), activation: config.activation };
      const change = bottleneckOf(forward, spec, config.original_ln_before ? ended(forward, site) : x);
      return forward.recorder.apply(add, { a: change, b: x }, {});
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

/** What a sub-layer without an adapter ends with: its output plus the residual, after the norm if one follows. */
function ended({ recorder }: Forward, { x, residual, norm }: BlockSite): Value {
  const sum = recorder.apply(add, { a: x, b: residual }, {});
  return norm?.(sum) ?? sum;
}
