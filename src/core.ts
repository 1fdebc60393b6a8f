// What training needs: engine, models, adapters, policies, batches, trainer. A test bounds its size in browsers.
export * from "./base/errors";
export { createEngine, Engine } from "./engine";
export type { EngineOptions } from "./engine";
export { VARIANT_NAMES } from "./gpu/variants";
export type { VariantName } from "./gpu/variants";
export { memoryTuningCache } from "./gpu/tuning/memory";
export type { Tuned, TuningCache, TuningRecord, Verdict, VerdictRecord } from "./gpu/tuning/cache";
export { indexedDbTuningCache } from "./gpu/tuning/indexed-db";
export type { KernelChoice, TuningOptions } from "./gpu/tuning/tuner";
export { Tensor } from "./tensor";
export type { AdapterInfo } from "./gpu/device";
export type { KernelFeature } from "./op/launch";
export { LIFETIMES, sumBytes } from "./gpu/ledger";
export type { Bytes, Ledger, Lifetime } from "./gpu/ledger";
export type { ByteCount } from "./base/bytes";

export { initialiseModel, loadModel, LoadedModel } from "./io/load-model";

export { WEIGHT_FORMATS } from "./base/packed";
export type { WeightFormat } from "./base/packed";

export type { InitialiseOptions, LoadOptions } from "./io/load-model";
export { memoryDirectory } from "./io/directory";
export type { Directory, FileContent, NewFile } from "./io/directory";
export type { DirectoryLike, OpenOptions } from "./io/directory-like";
export { createModel, loadFamily, MODEL_TYPES } from "./model/families";
export type { HeadOptions } from "./model/families";
export type {
  Activation,
  BatchSize,
  EncoderDecoder,
  HiddenStates,
  ImageSpec,
  LanguageModelOutput,
  LayerParts,
  Model,
  ParameterSpec,
  Projection,
  ProjectionRole,
  Task,
  TensorPlace,
} from "./model/model";
export type {
  AttentionInputs,
  AttentionShape,
  AttentionSite,
  BlockSite,
  Forward,
  ForwardHooks,
  ForwardOptions,
  LayerStack,
  LinearSite,
  RelativePositions,
} from "./model/forward";

export type {
  Adapter,
  AdapterFile,
  AdapterRun,
  AdapterState,
  AdapterTensor,
  LowRankUpdate,
  Tensors,
} from "./adapter/adapter";
export { full } from "./adapter/full";
export { lora } from "./adapter/lora";
export type { LoraOptions } from "./adapter/lora";
export type { LayerChoice, TargetOptions } from "./adapter/targets";

export type {
  FreezeContext,
  FreezeEffect,
  FreezePolicy,
  FreezePolicyState,
  GroupScores,
  ImportanceReference,
  LayerDropPolicy,
  LayerDropPolicyState,
  Policy,
  PolicyConfig,
  PolicyState,
  Progress,
  PruningPolicy,
  RunInfo,
  StructurePruningPolicy,
  StructurePruningPolicyState,
  WeightPruningContext,
  WeightPruningPolicy,
  WeightPruningPolicyState,
} from "./freeze/policy";
export { fixed } from "./freeze/fixed";
export type { FixedFreeze } from "./freeze/fixed";
export { freezeToFit } from "./freeze/freeze-to-fit";
export type { FreezeToFitOptions } from "./freeze/freeze-to-fit";
export { never } from "./freeze/never";
export { safe } from "./freeze/safe";
export type { SafeMeasure, SafeOptions } from "./freeze/safe-schedule";
export { upperLayers } from "./freeze/upper-layers";

export { Batches } from "./data/batches";
export type { BatchOptions } from "./data/batches";
export type { Batch } from "./data/batch";
export { makeBatch } from "./data/batch";
export { blockSamples, encodeExamples } from "./data/sample";
export type { Sample } from "./data/sample";
export { loadTokenizer } from "./data/tokenizer";
export type { Tokenizer } from "./data/tokenizer";

export { loadAdapter, saveAdapter, saveMerged, saveModel } from "./train/files";
export type { CardResult, ModelCard } from "./io/model-card";
export type { LoadAdapterOptions, SaveAdapterOptions, SaveModelOptions } from "./train/files";
export type {
  BatchSource,
  CheckpointExtra,
  CheckpointOptions,
  Loss,
  LossBatch,
  MemoryOptions,
  Objective,
  ObjectivePass,
  OnNotFinite,
  OptimizerOptions,
  PrefixCacheOptions,
  PrefixStore,
  Recompute,
  RecoverOptions,
  Schedule,
  ScheduleOptions,
  ThreeRateSchedule,
  TrainerOptions,
  WarmupOptions,
  WarmupSchedule,
} from "./train/options";
export type {
  LocalSteps,
  RoundWork,
  Share,
  WireBytes,
  WireReport,
  World,
  WorldMember,
  WorldPart,
  WorldRun,
} from "./train/world";
export { adamW } from "./optimizer/adamw";
export type { Optimizer, UpdatedTensor, UpdateMoment, UpdateTensors } from "./optimizer/optimizer";
export type { CommonOptions, CommonSettings, ParameterGroup } from "./optimizer/settings";
export { threeRate } from "./train/loop/learning-rate";
export { memoryPrefixStore } from "./train/step/prefix/store";
export { ACTIVATION_FORMATS } from "./op/pack";
export type { ActivationFormat } from "./op/pack";
export { plan } from "./train/estimate/predict";
export type { Prediction, PredictOptions } from "./train/estimate/predict";
export type { Resumed } from "./train/checkpoint/resume";
export type { PolicyScores } from "./train/freezing/context";
export type {
  CompactionEvent,
  FreezeEvent,
  LaunchRecord,
  SkippedStep,
  StepReport,
  TrainResult,
} from "./train/loop/reports";
export type { PrefixReport } from "./train/step/prefix/step-prefix";
export { SafeTrainer } from "./train/safe-trainer";
export type { SafeTrainerOptions } from "./train/safe-trainer";
export { Trainer } from "./train/trainer";
export type { StepsOptions } from "./train/trainer";
export type { Explanation, KeptValue, Rebuilt } from "./tape/explain";
export type { Op } from "./op/declaration";
export { defineOp } from "./op/declaration";
export { Recorder } from "./tape/tape";
export type { Value } from "./tape/tape";
export type { StoredNames } from "./model/config";
export type { Companion } from "./train/tensors/names";
export type { TrainableTensors } from "./train/tensors/trainable-tensors";
export type { RunHistory } from "./train/loop/history";
export type { Evaluation, SeeLogits } from "./train/evaluate";
export type { Span as StructureSpan, Structure } from "./model/structure";
export type { Statistics } from "./ops/shared/statistics";
export type { PeftConfig } from "./io/peft";
export type { FloatTensor, HostTensor } from "./io/safetensors";
export type { Dtype } from "./base/dtype";
export type { CachedShape, CachedSites, CacheSpec, EncodedSites } from "./model/cache";
export type { TrainableSpec } from "./train/tensors/specs";
