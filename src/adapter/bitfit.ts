import * as v from "valibot";
import { ConfigError } from "../base/errors";
import { checkSchema } from "../io/json";
import type { PeftConfig } from "../io/peft";
import { isInHead } from "../model/model";
import type { Model, ParameterSpec, TensorPlace } from "../model/model";
import type { Adapter } from "./adapter";
import { withAddedBiases } from "./added-biases";
import { chosenLayers, savedModuleTensors, taskType } from "./targets";
import type { LayerChoice } from "./targets";

export interface BitFitOptions {
  /** Layers whose biases learn. Default all biases, also those outside the layers. */
  readonly layers?: LayerChoice;
  /** Modules of which all tensors are trained as well. Default the task's head. */
  readonly modulesToSave?: readonly string[];
  /**
   * Whether every projection of the chosen layers that has no bias gets one of zeros, which learns: for models without biases,
   * such as LLaMA. Default false.
   */
  readonly addBiases?: boolean;
}

const SCHEMA = v.object({
  peft_type: v.literal("SAFETAPE_BITFIT"),
  add_biases: v.optional(v.boolean(), false),
  layers_to_transform: v.optional(v.nullable(v.array(v.number())), null),
  modules_to_save: v.optional(v.nullable(v.array(v.string())), null),
});

/**
 * BitFit (Ben Zaken et al. 2022, section 3): the biases of the checkpoint learn, those of norms included, and the head; with
 * `addBiases` also those that projections get in addition.
 *
 * Keeps nothing for a bias: its gradient is a sum over rows of the output's gradient.
 * @throws ConfigError for a model without biases.
 */
export function bitfit({ layers, modulesToSave, addBiases }: BitFitOptions = {}): Adapter {
  const keys = {
    peft_type: "SAFETAPE_BITFIT",
    add_biases: addBiases,
    modules_to_save: modulesToSave && [...modulesToSave],
  };
  return bitfitFromConfig(keys, "the BitFit configuration", layers);
}

/** BitFit by its adapter_config.json. @throws FileFormatError for a wrong value. */
export function bitfitFromConfig(value: PeftConfig, where: string, layers?: LayerChoice): Adapter {
  const config = checkSchema(SCHEMA, value, where);
  const layersOf = (model: Model): number[] | null =>
    layers === undefined ? config.layers_to_transform : chosenLayers(layers, model.layers);
  const heads = (model: Model): readonly string[] => config.modules_to_save ?? model.heads;
  const isChosen = (layer: TensorPlace, model: Model): boolean => {
    const adapted = layersOf(model);
    return adapted === null || (typeof layer === "number" && adapted.includes(layer));
  };
  const adapter: Adapter = {
    kind: "bitfit",
    tensors: () => [],
    baseTensors(model) {
      const isBias = ({ name, layer }: ParameterSpec): boolean => name.endsWith(".bias") && isChosen(layer, model);
      const biases = model.parameters.filter(isBias);
      // Layers that share their tensors (ALBERT) have no biases of their own.
      if (!config.add_biases && biases.every(({ name }) => isInHead(model, name))) {
        throw new ConfigError(
          `This ${model.family} model has no biases to train.`,
          "Add some with addBiases: true, or use lora() or another adapter.",
        );
      }
      const names = new Set([...savedModuleTensors(model, heads(model)), ...biases.map(({ name }) => name)]);
      return model.parameters.map(({ name }) => name).filter((name) => names.has(name));
    },
    peftConfig: (model) => ({
      ...config,
      layers_to_transform: layersOf(model),
      modules_to_save: [...heads(model)],
      task_type: taskType(model),
      inference_mode: true,
    }),
    merged: (_model, tensors, name, value) => tensors.get(name) ?? value,
  };
  if (!config.add_biases) return adapter;
  return withAddedBiases(adapter, (model) =>
    model.projections.filter(({ layer, role }) => role !== undefined && isChosen(layer, model)),
  );
}
