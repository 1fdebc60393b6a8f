import { ConfigError } from "../../base/errors";
import { nearestNames } from "../../base/nearest";
import { checkKeys } from "../../base/option-keys";
import type { CheckpointOptions, MemoryOptions, TrainerOptions } from "../options";
import type { PredictOptions } from "./predict";

// The keys of objects rather than lists, so that the compiler says where one is missing.

const OPTIONS = {
  model: 0,
  adapter: 0,
  data: 0,
  epochs: 0,
  steps: 0,
  accumulate: 0,
  optimizer: 0,
  schedule: 0,
  loss: 0,
  labelSmoothing: 0,
  dropout: 0,
  policy: 0,
  probe: 0,
  initial: 0,
  memory: 0,
  prefixCache: 0,
  mergeOnFreeze: 0,
  onNotFinite: 0,
  checkpoints: 0,
  distributed: 0,
  recover: 0,
  warn: 0,
  seed: 0,
} satisfies Record<keyof TrainerOptions, 0>;

const GROUPS = {
  memory: { budget: 0, microBatch: 0, recompute: 0, activations: 0 } satisfies Record<keyof MemoryOptions, 0>,
  checkpoints: { directory: 0, every: 0, keep: 0, resume: 0, extra: 0 } satisfies Record<keyof CheckpointOptions, 0>,
};

/**
 * Checks that all options exist, which the compiler cannot do for JavaScript and for spread objects.
 * @throws ConfigError with the nearest name, for a member of a group with all names of the group.
 */
export function checkOptionKeys(options: TrainerOptions): void {
  const unknown = Object.keys(options).find((name) => !Object.hasOwn(OPTIONS, name));
  if (unknown !== undefined) {
    throw new ConfigError(`A trainer has no option ${unknown}.`, `The nearest is ${nearestOption(unknown)}.`);
  }
  for (const [group, known] of Object.entries(GROUPS)) {
    // The keys of GROUPS are options of a trainer.
    const members: unknown = options[group as keyof typeof GROUPS];
    if (members === undefined) continue;
    const names = Object.keys(known);
    if (typeof members !== "object" || members === null) {
      throw new ConfigError(`${group} is not an object.`, `Its options are ${names.join(", ")}.`);
    }
    checkKeys(group, members, names);
  }
}

const PLAN_OPTIONS = {
  config: 0,
  adapter: 0,
  batch: 0,
  length: 0,
  targetLength: 0,
  packing: 0,
  weights: 0,
  memory: 0,
  optimizer: 0,
  loss: 0,
  freezeBelow: 0,
} satisfies Record<keyof PredictOptions, 0>;

/** @throws ConfigError for an option that plans do not have, such as one of `memory` outside of it. */
export function checkPlanKeys(options: object): void {
  checkKeys("A plan", options, Object.keys(PLAN_OPTIONS));
}

/** The option that is most like a name. One in a group is also known by its own name, and by both names in either order. */
function nearestOption(name: string): string {
  const spellings = new Map(Object.keys(OPTIONS).map((option) => [option.toLowerCase(), option]));
  for (const [group, members] of Object.entries(GROUPS)) {
    for (const member of Object.keys(members)) {
      for (const spelling of [member, group + member, member + group]) {
        spellings.set(spelling.toLowerCase(), `${group}: { ${member} }`);
      }
    }
  }
  const [nearest = ""] = nearestNames(name.toLowerCase(), [...spellings.keys()]);
  return spellings.get(nearest) ?? "";
}
