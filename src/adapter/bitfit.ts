import * as v from "valibot";
import { ConfigError } from "../base/errors";
import { checkSchema } from "../io/json";
import type { PeftConfig } from "../io/peft";
import type { Model, ParameterSpec } from "../model/model";
import type { Adapter } from "./adapter";
import { chosenLayers, savedModuleTensors, taskType } from "./targets";
import type { LayerChoice } from "./targets";

export interface BitFitOptions {
  /** Layers whose biases learn; default all, and those outside the layers. */
  readonly layers?: LayerChoice;
  /** Whole modules to train as well; default the task's head. */
  readonly modulesToSave?: readonly string[];
}

const NAMES = v.array(v.string());
const SCHEMA = v.object({
  peft_type: v.literal("SAFETAPE_BITFIT"),
  layers_to_transform: v.optional(v.nullable(v.array(v.number())), null),
  modules_to_save: v.optional(v.nullable(NAMES), null),
});

/**
 * BitFit (Ben Zaken et al. 2022, section 3): the checkpoint's own biases learn, those of norms included, and nothing else
 * but the head.
 *
 * Keeps nothing for a projection's bias, whose gradient is a sum over rows; a norm's bias needs no more either.
 * @throws ConfigError for a model without biases.
 */
export function bitfit({ layers, modulesToSave }: BitFitOptions = {}): Adapter {
  const keys = modulesToSave === undefined ? {} : { modules_to_save: [...modulesToSave] };
  return bitfitFromConfig({ peft_type: "SAFETAPE_BITFIT", ...keys }, "the BitFit configuration", layers);
}

/** BitFit as its own adapter_config.json describes it. @throws FileFormatError for a wrong value. */
export function bitfitFromConfig(told: PeftConfig, where: string, choice?: LayerChoice): Adapter {
  const config = checkSchema(SCHEMA, told, where);
  const layersOf = (model: Model): number[] | null =>
    choice === undefined ? config.layers_to_transform : chosenLayers(choice, model.layers);
  const heads = (model: Model): readonly string[] => config.modules_to_save ?? model.heads;
  return {
    kind: "bitfit",
    tensors: () => [],
    baseTensors(model) {
      const layers = layersOf(model);
      const isChosen = ({ layer }: ParameterSpec): boolean =>
        layers === null || (layer !== undefined && layers.includes(layer));
      const biases = model.parameters.filter((parameter) => parameter.name.endsWith(".bias") && isChosen(parameter));
      if (biases.every(({ layer }) => layer === undefined)) {
        throw new ConfigError(`This ${model.family} model has no biases to train.`, "Use lora() or another adapter.");
      }
      const chosen = new Set([...savedModuleTensors(model, heads(model)), ...biases.map(({ name }) => name)]);
      return model.parameters.map(({ name }) => name).filter((name) => chosen.has(name));
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
}
