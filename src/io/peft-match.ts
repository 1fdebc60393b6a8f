import { ConfigError } from "../base/errors";
import { oneLine } from "./json";
import { compilePattern } from "./pattern";
import type { LoraConfig } from "./peft-lora";

type Targets = Pick<LoraConfig, "target_modules" | "layers_to_transform" | "layers_pattern">;

/**
 * True where an adapter with this configuration adapts the module (a dotted path), by PEFT's rules: a list names modules
 * exactly or by a suffix that follows a dot ("output.dense" also hits "attention.output.dense"), and may be narrowed to
 * layer numbers; a string is a regular expression for the whole path. Throws ConfigError for an unusable expression.
 */
export function isTarget(config: Targets, module: string): boolean {
  const targets = config.target_modules;
  if (targets === null) return false;
  if (typeof targets === "string") return matchesPattern(targets, module, "whole");
  if (targets.includes(module)) return true;
  return targets.some((target) => module.endsWith(`.${target}`)) && isChosenLayer(config, module);
}

function isChosenLayer({ layers_to_transform: chosen, layers_pattern: names }: Targets, module: string): boolean {
  if (chosen === null || (Array.isArray(chosen) && chosen.length === 0)) return true;
  const layer = layerNumber(module, typeof names === "string" ? [names] : (names ?? []));
  if (layer === undefined) return false;
  return typeof chosen === "number" ? chosen === layer : chosen.includes(layer);
}

/** The number after the last "NAME." in the path, NAME the first of those given that occurs, or any if none is given. */
function layerNumber(module: string, names: readonly string[]): number | undefined {
  const parts = module.split(".");
  for (const name of names.length === 0 ? [undefined] : names) {
    for (let i = parts.length - 2; i >= 2; i--) {
      if ((name === undefined || name === parts[i - 1]) && /^\d+$/.test(parts[i]!)) return Number(parts[i]);
    }
  }
  return undefined;
}

const compiled = new Map<string, (text: string) => boolean>();

/**
 * Matches a regular expression from a configuration against the whole path, or its end after a dot ("suffix", as the keys
 * of rank_pattern and alpha_pattern are), in linear time. Throws ConfigError where it is invalid or not supported.
 */
export function matchesPattern(pattern: string, module: string, kind: "whole" | "suffix"): boolean {
  const source = kind === "whole" ? pattern : `(?:.*\\.)?(?:${pattern})`;
  let test = compiled.get(source);
  if (test === undefined) {
    test = compile(pattern, source);
    if (compiled.size >= 1000) compiled.clear();
    compiled.set(source, test);
  }
  return test(module);
}

function compile(pattern: string, source: string): (text: string) => boolean {
  try {
    return compilePattern(source);
  } catch (cause) {
    throw new ConfigError(
      `cannot use the module pattern ${JSON.stringify(pattern.slice(0, 100))}: ${oneLine((cause as Error).message)}`,
      "name the modules in a list instead",
      { cause },
    );
  }
}
