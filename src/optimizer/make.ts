import { ConfigError } from "../base/errors";
import { adafactor } from "./adafactor";
import { adam } from "./adam";
import { adamW } from "./adamw";
import { lion } from "./lion";
import { muon } from "./muon";
import type { Optimizer } from "./optimizer";
import type { CommonOptions } from "./settings";
import { sgd } from "./sgd";

/** Common options, and those that an optimizer has besides. */
export type NamedOptimizerOptions = CommonOptions & Readonly<Record<string, unknown>>;

const MAKERS = {
  adamw: adamW,
  adam,
  sgd,
  lion,
  muon,
  adafactor,
} satisfies Readonly<Record<string, (options: CommonOptions) => Optimizer>>;

/** Names of the optimizers that `makeOptimizer` knows. */
export const OPTIMIZER_NAMES: readonly string[] = Object.keys(MAKERS);

/**
 * An optimizer by name.
 * @param options those of the optimizer, such as `momentum` of sgd.
 * @throws ConfigError for an unknown name, and as the optimizer.
 */
export function makeOptimizer(name: string, options: CommonOptions | NamedOptimizerOptions = {}): Optimizer {
  const make = Object.entries(MAKERS).find(([known]) => known === name)?.[1];
  if (make) return make(options);
  throw new ConfigError(`There is no optimizer ${JSON.stringify(name)}.`, `Give ${OPTIMIZER_NAMES.join(", ")}.`);
}
