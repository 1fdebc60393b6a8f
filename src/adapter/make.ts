import { ConfigError } from "../base/errors";
import { checkKeys } from "../base/option-keys";
import { adalora } from "./adalora";
import type { Adapter } from "./adapter";
import { aflora } from "./aflora";
import { bitfit } from "./bitfit";
import { houlsby, pfeiffer } from "./bottleneck";
import { dora } from "./dora";
import { full } from "./full";
import { ia3 } from "./ia3";
import { lnTuning } from "./ln-tuning";
import { loha } from "./loha";
import { lokr } from "./lokr";
import { lora } from "./lora-init";
import { meft } from "./meft";
import { oft } from "./oft";
import { prefixTuning } from "./prefix";
import { pTuning } from "./p-tuning";
import { promptTuning } from "./prompt";
import { sora } from "./sora";
import { vera } from "./vera";

const TARGETS = ["targets", "layers", "modulesToSave"];
const LOW_RANK = ["rank", "alpha", "dropout", ...TARGETS];
const LORA = [
  ...LOW_RANK,
  "rankStabilised",
  "rankPattern",
  "alphaPattern",
  "init",
  "bias",
  "addBiases",
  "ensureWeightTying",
];
const LYCORIS = ["rank", "alpha", "rankDropout", "moduleDropout", ...TARGETS, "rankPattern", "alphaPattern"];
const ADALORA = [
  "initialRank",
  "targetRank",
  "alpha",
  "dropout",
  "warmupSteps",
  "finalSteps",
  "every",
  "orthogonality",
];

interface Kind {
  /** Makes the adapter from the options that are named below; checks their values. */
  readonly make: (options: never) => Adapter;
  readonly options: readonly string[];
}

/** Every kind of adapter, by its name in configurations and on the command line. */
const KINDS: Readonly<Record<string, Kind>> = {
  lora: { make: lora, options: LORA },
  dora: { make: dora, options: LORA },
  aflora: { make: aflora, options: ["rank", "matrices", "initialD", "rankBudget", ...TARGETS] },
  vera: { make: vera, options: ["rank", "dropout", "initialD", ...TARGETS] },
  adalora: { make: adalora, options: [...ADALORA, ...TARGETS] },
  sora: { make: sora, options: [...LOW_RANK, "threshold", "penalty"] },
  loha: { make: loha, options: LYCORIS },
  lokr: { make: lokr, options: [...LYCORIS, "decomposeBoth", "decomposeFactor", "rankDropoutScale"] },
  oft: { make: oft, options: ["blockSize", "blocks", "blockShare", "neumannTerms", "eps", ...TARGETS] },
  ia3: { make: ia3, options: ["feedForward", ...TARGETS] },
  bitfit: { make: bitfit, options: ["addBiases", "layers", "modulesToSave"] },
  ln_tuning: { make: lnTuning, options: TARGETS },
  prefix_tuning: {
    make: prefixTuning,
    options: ["tokens", "projection", "encoderSize", "initial", "modulesToSave"],
  },
  p_tuning: { make: pTuning, options: ["tokens", "encoder", "encoderSize", "modulesToSave"] },
  prompt: { make: promptTuning, options: ["tokens", "initial", "modulesToSave"] },
  houlsby: { make: houlsby, options: ["size", "trainsNorms", "layers", "modulesToSave"] },
  pfeiffer: { make: pfeiffer, options: ["size", "placement", "layers", "modulesToSave"] },
  meft: {
    make: meft,
    options: ["variant", "size", "lambda", "beta", "stateEvery", "dropout", "layers", "modulesToSave"],
  },
  full: { make: full, options: [] },
};

/** Names of all kinds. */
export const ADAPTER_KINDS: readonly string[] = Object.keys(KINDS);

/** Names of the options of a kind of adapter; none for a kind that does not exist. */
export const adapterOptions = (kind: string): readonly string[] =>
  Object.hasOwn(KINDS, kind) ? KINDS[kind]!.options : [];

/** An adapter in plain JSON: its kind, and its options. */
export type AdapterChoice = Readonly<Record<string, unknown>> & { readonly kind: string };

/** Makes an adapter. @throws ConfigError for a kind or an option that does not exist, or a value that makes no sense. */
export function makeAdapter({ kind, ...options }: AdapterChoice): Adapter {
  const known = Object.hasOwn(KINDS, kind) ? KINDS[kind] : undefined;
  if (!known) throw new ConfigError(`There is no adapter ${kind}.`, `The kinds are ${ADAPTER_KINDS.join(", ")}.`);
  checkKeys(`The adapter ${kind}`, options, known.options);
  // The options come from JSON: `make` checks their values.
  return known.make(options as never);
}
