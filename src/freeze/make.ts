import * as v from "valibot";
import { ConfigError } from "../base/errors";
import { checkKeys } from "../base/option-keys";
import { checkSchema } from "../io/json";
import { adapterDrop } from "./adapter-drop";
import { afloraFreezing } from "./aflora";
import { fixed } from "./fixed";
import { freezeToFit } from "./freeze-to-fit";
import { loraPrune } from "./lora-prune";
import { never } from "./never";
import type { Policy } from "./policy";
import { resting } from "./resting";
import { safe } from "./safe";
import { sparseAdapter } from "./sparse-adapter";
import { upperLayers } from "./upper-layers";

const SAFE_MEASURE = ["measure", "reference", "center", "scores"];
const SAFE_SCHEDULE = ["every", "settledBelow", "settledFor", "floor", "maxWarmup", "rampEnd", "until"];

const FREEZES = v.array(
  v.strictObject({ beforeStep: v.pipe(v.number(), v.safeInteger(), v.minValue(0)), tensors: v.array(v.string()) }),
);

interface Kind {
  /** Makes the policy from the options that are named below; checks their values. */
  readonly make: (options: never) => Policy;
  readonly options: readonly string[];
}

/** Every policy, by its name in configurations and on the command line. */
const POLICIES: Readonly<Record<string, Kind>> = {
  never: { make: never, options: [] },
  safe: { make: safe, options: ["tauT", "targetFreezeFraction", ...SAFE_MEASURE, ...SAFE_SCHEDULE] },
  aflora: {
    make: afloraFreezing,
    options: ["mode", "initialEpochs", "finalShare", "sensitivity", "simultaneous", "beta1", "beta2", "every"],
  },
  upper_layers: { make: ({ count }: { count?: number }) => upperLayers(count), options: ["count"] },
  resting: { make: resting, options: ["layers", "every"] },
  adapter_drop: { make: adapterDrop, options: ["most", "seed"] },
  sparse_adapter: { make: sparseAdapter, options: ["keep", "by", "seed"] },
  lora_prune: {
    make: loraPrune,
    options: ["ratio", "every", "warmupShare", "finalShare", "smoothing", "compactions"],
  },
  freeze_to_fit: { make: freezeToFit, options: ["bytes", "atStep"] },
  fixed: {
    make: ({ freezes = [] }: { freezes?: unknown }) => fixed(checkSchema(FREEZES, freezes, "fixed: freezes")),
    options: ["freezes"],
  },
};

/** Names of all policies. */
export const POLICY_NAMES: readonly string[] = Object.keys(POLICIES);

/** Names of the options of a policy; undefined for one that does not exist. */
export const policyOptions = (policy: string): readonly string[] | undefined =>
  Object.hasOwn(POLICIES, policy) ? POLICIES[policy]!.options : undefined;

/** A policy in plain JSON: its name, and its options. */
export type PolicyChoice = Readonly<Record<string, unknown>> & { readonly policy: string };

/** Makes a policy. @throws ConfigError for a policy or an option that does not exist, or a value that makes no sense. */
export function makePolicy({ policy, ...options }: PolicyChoice): Policy {
  const kind = Object.hasOwn(POLICIES, policy) ? POLICIES[policy] : undefined;
  if (!kind) throw new ConfigError(`There is no policy ${policy}.`, `The policies are ${POLICY_NAMES.join(", ")}.`);
  checkKeys(`The policy ${policy}`, options, kind.options);
  // The options come from JSON: `make` checks their values.
  return kind.make(options as never);
}
