import { ConfigError } from "../../base/errors";
import { makePolicy, POLICY_NAMES, policyOptions } from "../../freeze/make";
import type { PolicyChoice } from "../../freeze/make";
import type { Policy } from "../../freeze/policy";
import { ADDED } from "./registries";

/** Names of the policies of the package and of plugins. */
export const policyNames = (): readonly string[] => [...POLICY_NAMES, ...ADDED.policies.names];

/** Whether a policy may have an option; a plugin's may have any, and checks them itself. */
export const hasOption = (policy: string, option: string): boolean =>
  ADDED.policies.get(policy) !== undefined || (policyOptions(policy)?.includes(option) ?? false);

/**
 * Makes a policy of the package, or of a plugin.
 * @throws ConfigError as `makePolicy`, and where a plugin's function returns something else.
 */
export function policyOf({ policy, ...options }: PolicyChoice): Policy {
  const make = ADDED.policies.get(policy);
  if (!make) return makePolicy({ policy, ...options });
  const made = make(options);
  if (isPolicy(made)) return made;
  throw new ConfigError(
    `The policy ${policy} of a plugin is not a policy.`,
    'Return { kind: "freezing", name, settings, start }, as a policy of yours in a program.',
  );
}

const KINDS: readonly Policy["kind"][] = ["freezing", "layer_dropping", "weight_pruning", "structure_pruning"];

// A plugin's function may return anything.
const isPolicy = (made: Partial<Policy> | undefined): made is Policy =>
  typeof made?.start === "function" && typeof made.name === "string" && KINDS.some((kind) => kind === made.kind);
