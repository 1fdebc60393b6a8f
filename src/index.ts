// The package itself: trainers, adapters, policies. A test bounds the number of values; the subpaths have the others.
export {
  createEngine,
  createModel,
  Engine,
  fixed,
  freezeToFit,
  full,
  initialiseModel,
  loadAdapter,
  loadFamily,
  loadModel,
  never,
  plan,
  safe,
  SafeTrainer,
  saveAdapter,
  saveMerged,
  saveModel,
  Trainer,
  upperLayers,
} from "./core";
export type * from "./core";

// Adapters and policies of studies, which the core leaves out.
export { adalora } from "./adapter/adalora";
export type { AdaloraOptions } from "./adapter/adalora";
export { aflora } from "./adapter/aflora";
export type { AfloraOptions, MatricesChoice, RankBudget } from "./adapter/aflora";
export { bitfit } from "./adapter/bitfit";
export type { BitFitOptions } from "./adapter/bitfit";
export { dora } from "./adapter/dora";
export { lora } from "./adapter/lora-init";
export type { LoraInit } from "./adapter/lora-init";
export { houlsby, pfeiffer } from "./adapter/bottleneck";
export type { BottleneckOptions, HoulsbyOptions, PfeifferOptions, PfeifferPlacement } from "./adapter/bottleneck";
export { meft } from "./adapter/meft";
export type { MeftOptions } from "./adapter/meft";
export { ia3 } from "./adapter/ia3";
export type { Ia3Options } from "./adapter/ia3";
export { promptTuning } from "./adapter/prompt";
export type { InitialPrompt, PromptOptions } from "./adapter/prompt";
export { sora } from "./adapter/sora";
export type { SoraOptions } from "./adapter/sora";
export { vera } from "./adapter/vera";
export type { VeraOptions } from "./adapter/vera";
export { afloraFreezing } from "./freeze/aflora";
export type { AfloraPolicyOptions } from "./freeze/aflora";
export { adapterDrop } from "./freeze/adapter-drop";
export type { AdapterDropOptions } from "./freeze/adapter-drop";
export { loraPrune } from "./freeze/lora-prune";
export type { LoraPruneOptions } from "./freeze/lora-prune";
export { sparseAdapter } from "./freeze/sparse-adapter";
export type { SparseAdapterOptions } from "./freeze/sparse-adapter";
export { fitMemoryBudget } from "./train/estimate/fit-memory-budget";
export type { BudgetChoice } from "./train/estimate/fit-memory-budget";
export { EarlyStopping } from "./train/early-stopping";
export type { EarlyStoppingOptions, JudgedStep } from "./train/early-stopping";

export { classify } from "./train/classify";
export type { Classified, ClassifyOptions, TextToClassify } from "./train/classify";
export type { TokenDecoder } from "./data/text-pieces";
export { generate } from "./generate/generate";
export type { Continuation, GenerateOptions, Prompt } from "./generate/options";
export type { AdapterWeights } from "./generate/weights";
export type { SensitivityKind } from "./ops/sensitivity";
