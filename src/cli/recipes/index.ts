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
  const nearest = RECIPES.map((candidate) => candidate.name)
    .map((candidate) => ({ candidate, distance: editDistance(name, candidate) }))
    .sort((a, b) => a.distance - b.distance)
    .slice(0, 3);
  throw new UsageError(
    `There is no recipe ${name.slice(0, 200)}.`,
    `The nearest are ${nearest.map(({ candidate }) => candidate).join(", ")}; safetape recipes lists all.`,
  );
}

/** The options of a run: a recipe's, where `--recipe` names one, and those given on the command line, which override it. */
export function withRecipe({ recipe, ...given }: RawOptions): RawOptions {
  return typeof recipe === "string" ? { ...recipeNamed(recipe).options, ...given, recipe } : given;
}

/** Levenshtein's distance: single letters to insert, remove or replace. */
function editDistance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (const [i, letter] of [...a].entries()) {
    const next = [i + 1];
    for (let j = 0; j < b.length; j++) {
      const isOther = letter === b[j] ? 0 : 1;
      next.push(Math.min(row[j]! + isOther, row[j + 1]! + 1, next[j]! + 1));
    }
    row = next;
  }
  return row.at(-1)!;
}
