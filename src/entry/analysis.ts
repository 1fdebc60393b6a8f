// What a trained adapter does, and which method suits a run: similarity, landscapes, curvature, schedules, memory by method.
export { adapterContribution } from "../analysis/contribution";
export type { Contribution, ContributionOptions } from "../analysis/contribution";
export { freezeSchedule } from "../analysis/freeze-schedule";
export type { FreezeSchedule, FreezeScheduleOptions, LayerScores, ScheduleMoment } from "../analysis/freeze-schedule";
export { hessianEigenvalues } from "../analysis/hessian";
export type { HessianEigenvalue, HessianOptions, HessianSpectrum } from "../analysis/hessian";
export { lossLandscape } from "../analysis/landscape";
export type { Landscape, LandscapeOptions } from "../analysis/landscape";
export type { LossVariables } from "../analysis/loss-surface";
export { memoryByMethod } from "../analysis/memory";
export type { MethodMemory, MethodMemoryOptions } from "../analysis/memory";
export { compareSensitivities } from "../analysis/sensitivity";
export type { FrozenMatrix, SensitivityOptions, SensitivityRun } from "../analysis/sensitivity";
export { compareLayers, layerSimilarity } from "../analysis/similarity";
export type { CompareOptions, LayerSimilarity, SimilarityOptions, Snapshot } from "../analysis/similarity";
export { startDeviation } from "../analysis/start-deviation";
export { subjectOf } from "../analysis/subject";
export type { AnalysisControl, NamedTensors, Subject } from "../analysis/subject";

// Event files for TensorBoard. In Node there is openSummaryWriter besides.
export { SummaryWriter } from "../report/summary-writer";
export type { AppendRecords, Hparam, SummaryWriterOptions } from "../report/summary-writer";

// Adapters, optimizers and policies by name, to go through them.
export { ADAPTER_KINDS, makeAdapter } from "../adapter/make";
export type { AdapterChoice } from "../adapter/make";
export { lnTuning } from "../adapter/ln-tuning";
export type { LnTuningOptions } from "../adapter/ln-tuning";
export { loha } from "../adapter/loha";
export type { LohaOptions } from "../adapter/loha";
export { lokr } from "../adapter/lokr";
export type { LokrOptions } from "../adapter/lokr";
export type { LycorisOptions } from "../adapter/lycoris";
export { oft } from "../adapter/oft";
export type { OftOptions } from "../adapter/oft";
export { prefixTuning } from "../adapter/prefix";
export type { PrefixOptions } from "../adapter/prefix";
export { pTuning } from "../adapter/p-tuning";
export type { PTuningOptions } from "../adapter/p-tuning";
export { loraPlusGroups } from "../adapter/lora-plus";
export type { LoraPlusOptions } from "../adapter/lora-plus";
export { mergeAdapters, MERGE_METHODS } from "../adapter/merge-adapters";
export type { MergeAdaptersOptions, MergeMethod, WeightedAdapter } from "../adapter/merge-adapters";
export { mergeIntoModel } from "../adapter/merge-into-model";
export type { MergedFormat, MergedIntoModel, MergeIntoModelOptions } from "../adapter/merge-into-model";
export { makePolicy, POLICY_NAMES } from "../freeze/make";
export type { PolicyChoice } from "../freeze/make";
export { resting } from "../freeze/resting";
export type { RestingOptions } from "../freeze/resting";
export { makeOptimizer, OPTIMIZER_NAMES } from "../optimizer/make";
export type { NamedOptimizerOptions } from "../optimizer/make";
export { describeChoice } from "../train/estimate/fit-memory-budget";
export type { BudgetChoice } from "../train/estimate/fit-memory-budget";
