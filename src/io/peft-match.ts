import { ConfigError } from "../base/errors";
import { oneLine } from "./json";
import { compilePattern } from "./pattern";
import type { LoraConfig } from "./peft-lora";

type Targets = Pick<LoraConfig, "target_modules" | "layers_to_transform" | "layers_pattern">;
type Excluded = Pick<LoraConfig, "exclude_modules" | "modules_to_save">;

/**
 * Whether an adapter with this configuration adapts a module, by PEFT's rules. A list names modules by their path or a
 * suffix of it after a dot ("output.dense" also matches "attention.output.dense"), and may be restricted to layers. A string
 * is a regular expression for the complete path.
 * @throws ConfigError for an invalid or unsupported expression.
 */
export function isTarget(config: Targets & Excluded, module: string): boolean {
  const targets = config.target_modules;
  if (targets === null || isExcluded(config, module)) return false;
  if (typeof targets === "string") return matchesPattern(targets, module, "whole");
  if (targets.includes(module)) return true;
  return isNamed(targets, module) && isInLayers(config, module);
}

/** Whether a list has a module's path, or a suffix of it after a dot. */
export const isNamed = (names: readonly string[], module: string): boolean =>
  names.some((name) => module === name || module.endsWith(`.${name}`));

/**
 * Whether a module gets no adapter, whatever the targets name: `exclude_modules` names it (as targets are named), or it is saved
 * completely, or in a module that is (a name of `modules_to_save` is then some of the path's parts between dots).
 * @throws ConfigError for an invalid or unsupported expression.
 */
export function isExcluded({ exclude_modules: excluded, modules_to_save: saved }: Excluded, module: string): boolean {
  const isListed =
    typeof excluded === "string" ? matchesPattern(excluded, module, "whole") : isNamed(excluded ?? [], module);
  return isListed || (saved ?? []).some((name) => matchesPattern(name, module, "within"));
}

/** Ends of module paths, as short as they can be, that a list of targets needs to name some modules and no other. */
export function shortestSuffixes(chosen: readonly string[], all: readonly string[]): string[] {
  const names = new Set(chosen);
  const others = all.filter((name) => !names.has(name));
  const suffixOf = (name: string): string => {
    const parts = name.split(".");
    const suffixes = parts.map((_, i) => parts.slice(parts.length - 1 - i).join("."));
    return suffixes.find((suffix) => !others.some((other) => `.${other}`.endsWith(`.${suffix}`))) ?? name;
  };
  return [...new Set(chosen.map(suffixOf))];
}

function isInLayers({ layers_to_transform: layers, layers_pattern: names }: Targets, module: string): boolean {
  if (layers === null || (Array.isArray(layers) && layers.length === 0)) return true;
  const layer = layerNumber(module, typeof names === "string" ? [names] : (names ?? []));
  if (layer === undefined) return false;
  return typeof layers === "number" ? layers === layer : layers.includes(layer);
}

/**
 * The number after the first "NAME." in a path, as PEFT (since 0.21) finds it. NAME is the first of `names` that occurs; any
 * but the path's first part if there are none.
 */
export function layerNumber(module: string, names: readonly string[] = []): number | undefined {
  const parts = module.split(".");
  const isNumber = (i: number): boolean => i < parts.length - 1 && /^\d+$/.test(parts[i]!);
  const found =
    names.length === 0
      ? parts.findIndex((_, i) => i >= 2 && isNumber(i))
      : names
          .map((name) => parts.findIndex((_, i) => i >= 1 && parts[i - 1] === name && isNumber(i)))
          .find((i) => i >= 0);
  return found === undefined || found < 0 ? undefined : Number(parts[found]);
}

const compiled = new Map<string, (text: string) => boolean>();

/** Around a pattern: what else of a path may be there. */
const AROUND = { whole: ["", ""], suffix: ["(?:.*\\.)?(?:", ")"], within: ["(?:.*\\.)?(?:", ")(?:\\..*)?"] } as const;

/**
 * Whether a regular expression from a configuration matches a path in linear time: all of it ("whole"), a suffix of it
 * after a dot ("suffix", for the keys of rank_pattern and alpha_pattern), or parts of it between dots ("within").
 * @throws ConfigError for an invalid or unsupported expression.
 */
export function matchesPattern(pattern: string, module: string, kind: keyof typeof AROUND): boolean {
  const source = AROUND[kind].join(pattern);
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
      `The module pattern ${JSON.stringify(pattern.slice(0, 100))} (target_modules, exclude_modules, modules_to_save, rank_pattern or alpha_pattern) cannot be used: ${oneLine(cause instanceof Error ? cause.message : String(cause))}.`,
      "List the names of the modules instead.",
      { cause },
    );
  }
}
