import { findRecipes, recipeNamed, RECIPES } from ".";
import { RECIPES_OPTIONS } from "../flags";
import { readOptions } from "../options";
import type { Print, RawOptions } from "../options";

/**
 * `safetape recipes [name]`: lists the recipes whose names have all words of NAME, which slashes separate; or prints one with
 * its source, its options, and what of them is not the paper's.
 */
export function recipesCommand(name: string | undefined, raw: RawOptions, print: Print): void {
  const { json } = readOptions(RECIPES_OPTIONS, raw);
  const matching = name === undefined ? RECIPES : findRecipes(name.split("/"));
  if (json) {
    // A name that no recipe has is an error with the nearest ones.
    print(JSON.stringify(matching.length > 0 ? matching : [recipeNamed(name ?? "")]));
    return;
  }
  const [only] = matching.length === 1 ? matching : matching.filter((recipe) => recipe.name === name);
  if (!only && matching.length > 0) {
    for (const recipe of matching) print(`${recipe.name}  ${recipe.model}`);
    return;
  }
  const { name: full, source, model, options, ours } = only ?? recipeNamed(name ?? "");
  print(full);
  print(`source: ${source}`);
  print(`model: ${model}`);
  for (const [option, value] of Object.entries(options)) print(`  ${flag(option)}${value === true ? "" : ` ${value}`}`);
  for (const choice of ours) print(`not in the paper: ${choice}`);
}

/** A flag from its name in camel case. */
const flag = (name: string): string => `--${name.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}`;
