import { ConfigError } from "../base/errors";
import { adapterDrop } from "./adapter-drop";
import { afloraFreezing } from "./aflora";
import { fixed } from "./fixed";
import { loraPrune } from "./lora-prune";
import { memoryBudget } from "./memory-budget";
import { never } from "./never";
import type { Policy } from "./policy";
import { safe } from "./safe";
import { sparseAdapter } from "./sparse-adapter";
import { upperLayers } from "./upper-layers";

const SAFE = ["tauT", "targetFreezeFraction", "every", "settledBelow", "settledFor", "maxWarmup", "rampEnd"];

interface Kind {
  /** Called with exactly the options named below; each policy checks their values. */
  readonly make: (options: never) => Policy;
  readonly options: readonly string[];
}

/** Every policy by the name that configurations and the command line use. */
const POLICIES: Readonly<Record<string, Kind>> = {
  never: { make: never, options: [] },
  safe: { make: safe, options: [...SAFE, "scores", "center", "floor"] },
  aflora: {
    make: afloraFreezing,
    options: ["mode", "initialEpochs", "finalShare", "sensitivity", "beta1", "beta2", "every"],
  },
  upper_layers: { make: ({ count }: { count?: number }) => upperLayers(count), options: ["count"] },
  adapter_drop: { make: adapterDrop, options: ["most", "seed"] },
  sparse_adapter: { make: sparseAdapter, options: ["keep", "by", "seed"] },
  lora_prune: { make: loraPrune, options: ["ratio", "every", "warmupShare", "finalShare", "smoothing"] },
  memory_budget: { make: memoryBudget, options: ["bytes", "atStep"] },
  fixed: { make: ({ freezes = [] }: { freezes?: never[] }) => fixed(freezes), options: ["freezes"] },
};

/** Names of the policies. */
export const POLICY_NAMES: readonly string[] = Object.keys(POLICIES);

/** A policy as plain JSON names it: its name, and that policy's options. */
export type PolicyChoice = Readonly<Record<string, unknown>> & { readonly policy: string };

/** @throws ConfigError for a policy or an option that does not exist, or a value that makes no sense. */
export function makePolicy({ policy, ...options }: PolicyChoice): Policy {
  const found = Object.hasOwn(POLICIES, policy) ? POLICIES[policy] : undefined;
  if (!found) throw new ConfigError(`There is no policy ${policy}.`, `The policies are ${POLICY_NAMES.join(", ")}.`);
  const unknown = Object.keys(options).find((option) => !found.options.includes(option));
  if (unknown === undefined) return found.make(options as never);
  throw new ConfigError(
    `The policy ${policy} has no option ${unknown}.`,
    `Its options are ${found.options.join(", ") || "none"}.`,
  );
}
