import { nearestNames } from "../../base/nearest";
import { UsageError } from "../options";
import type { RawOptions } from "../options";
import { AFLORA_RECIPES } from "./aflora";
import { EMPIRICAL_RECIPES } from "./empirical";
import type { Recipe } from "./recipe";
import { SAFE_RECIPES } from "./safe";

/** The published settings of the three papers. */
export const RECIPES: readonly Recipe[] = [...SAFE_RECIPES, ...AFLORA_RECIPES, ...EMPIRICAL_RECIPES];

/** Recipes whose names contain all of the words. */
export function findRecipes(words: readonly string[]): Recipe[] {
  return RECIPES.filter(({ name }) => words.every((word) => name.includes(word)));
}

/** @throws UsageError for a name that no recipe has, with the nearest names. */
export function recipeNamed(name: string): Recipe {
  const recipe = RECIPES.find((candidate) => candidate.name === name);
  if (recipe) return recipe;
  const nearest = nearestNames(
    name,
    RECIPES.map((candidate) => candidate.name),
  );
  throw new UsageError(
    `There is no recipe ${name.slice(0, 200)}.`,
    `The nearest are ${nearest.join(", ")}; safetape recipes lists all.`,
  );
}

/** The options of a run: a recipe's, where `--recipe` names one, and those given on the command line, which override it. */
export function withRecipe({ recipe, ...given }: RawOptions): RawOptions {
  return typeof recipe === "string" ? { ...recipeNamed(recipe).options, ...given, recipe } : given;
}
