// Learning from pairs of answers: DPO, its data and its reference.
export { DPO_LOSSES, dpo } from "../preference/dpo";
export type { DpoOptions } from "../preference/dpo";
export { preferencePairs } from "../preference/pairs";
export type { PreferencePair, PreferencePairOptions, PreferencePairs, ReferencedPair } from "../preference/pairs";
export { PreferenceBatches } from "../preference/batches";
export type { PreferenceBatchOptions } from "../preference/batches";
export { readPreferences } from "../preference/read";
export type { Preference } from "../preference/read";
export { withReference } from "../preference/reference";
export type { ReferenceOptions } from "../preference/reference";
export { rewardScores } from "../preference/rewards";
export type { RewardMetrics } from "../preference/rewards";
