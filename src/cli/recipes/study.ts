import type { RawOptions } from "../options";
import { recipeNamed } from ".";
import type { RecipeOptions } from "./recipe";

/** Options of `safetape train` that are options of a study's adapters. */
const ADAPTER = ["rank", "alpha", "dropout", "size", "tokens", "addBiases"] as const;

/** A method of a study file whose `recipe` names a published setting: its other keys override the recipe's. */
export function methodOfRecipe({ recipe, ...given }: RawOptions): RawOptions {
  if (typeof recipe !== "string") return given;
  const { options } = recipeNamed(recipe);
  const { adapter: kind, targets, freeze = "never", lr, headLr, weightDecay } = options;
  const freezing = String(freeze);
  const adapter = { kind, ...defined({ ...pick(options, ADAPTER), targets: targets && String(targets).split(",") }) };
  const policy: unknown = freezing.startsWith("{") ? JSON.parse(freezing) : { policy: freezing };
  return { ...defined({ adapter, freeze: policy, learningRate: lr, headLearningRate: headLr, weightDecay }), ...given };
}

/** A task of a study file whose `recipe` names a published setting: its other keys override the recipe's. */
export function taskOfRecipe({ recipe, ...given }: RawOptions): RawOptions {
  if (typeof recipe !== "string") return given;
  const { options } = recipeNamed(recipe);
  const { generate, maxNewTokens, beams, lengthPenalty, uniqueNgram: noRepeatNgram } = options;
  const texts = generate === true ? defined({ maxNewTokens, beams, lengthPenalty, noRepeatNgram }) : undefined;
  const taken = pick(options, ["task", "maxLength", "batch", "accumulate", "labelSmoothing", "examples", "epochs"]);
  // A length of the study's own takes the place of the recipe's.
  const { epochs, ...rest } = taken;
  const length = "steps" in given ? {} : { epochs };
  return { ...defined({ ...rest, ...length, generate: texts }), ...given };
}

const pick = <Name extends keyof RecipeOptions>(options: RecipeOptions, names: readonly Name[]) =>
  // Object.fromEntries forgets which names the keys have.
  Object.fromEntries(names.map((name) => [name, options[name]])) as Pick<RecipeOptions, Name>;

const defined = (values: RawOptions): RawOptions =>
  Object.fromEntries(Object.entries(values).filter(([, value]) => value !== undefined));
