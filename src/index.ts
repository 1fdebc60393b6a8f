// All of the library that needs no Node: the core, and further adapters and policies, readers of data sets, metrics, generation and analyses.
export * from "./core";

export { ADAPTER_KINDS, makeAdapter } from "./adapter/make";
export type { AdapterChoice } from "./adapter/make";
// Adapters and policies of studies, which the core leaves out.
export { adalora } from "./adapter/adalora";
export type { AdaloraOptions } from "./adapter/adalora";
export { aflora } from "./adapter/aflora";
export type { AfloraOptions, MatricesChoice, RankBudget } from "./adapter/aflora";
export { bitfit } from "./adapter/bitfit";
export type { BitFitOptions } from "./adapter/bitfit";
export { dora } from "./adapter/dora";
export { houlsby, pfeiffer } from "./adapter/bottleneck";
export type { BottleneckOptions, HoulsbyOptions, PfeifferOptions, PfeifferPlacement } from "./adapter/bottleneck";
export { meft } from "./adapter/meft";
export type { MeftOptions } from "./adapter/meft";
export { ia3 } from "./adapter/ia3";
export type { Ia3Options } from "./adapter/ia3";
export { promptTuning } from "./adapter/prompt";
export type { PromptOptions } from "./adapter/prompt";
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
export { makePolicy, POLICY_NAMES } from "./freeze/make";
export type { PolicyChoice } from "./freeze/make";
export { describeChoice, fitBudget } from "./train/estimate/fit-budget";
export type { BudgetChoice } from "./train/estimate/fit-budget";
export { adafactor } from "./optimizer/adafactor";
export type { AdafactorOptions } from "./optimizer/adafactor";
export { adam } from "./optimizer/adam";
export { lion } from "./optimizer/lion";
export type { LionOptions } from "./optimizer/lion";
export { makeOptimizer, OPTIMIZER_NAMES } from "./optimizer/make";
export { muon } from "./optimizer/muon";
export type { MuonOptions } from "./optimizer/muon";
export { sgd } from "./optimizer/sgd";
export type { SgdOptions } from "./optimizer/sgd";
export { EarlyStopping } from "./train/early-stopping";
export type { EarlyStoppingOptions, JudgedStep } from "./train/early-stopping";

export { fetchDirectory } from "./io/fetch-directory";
export type { FetchDirectoryOptions, FetchProgress } from "./io/fetch-directory";

export { isGlueTask } from "./data/glue-tasks";
export { readGlue } from "./data/glue";
export { AG_NEWS_CLASSES, readAgNews } from "./data/ag-news";
export { readCifar } from "./data/cifar";
export type { AnswerSamples } from "./data/answers";
export { e2ePrompts, e2eSamples, readE2e } from "./data/e2e";
export type { E2eExample } from "./data/e2e";
export { FASHION_MNIST_CLASSES, readIdx } from "./data/idx";
export type { IdxOptions } from "./data/idx";
export { readImageFolder, readImages } from "./data/image-folder";
export type { ImageFile, ImageFolderOptions } from "./data/image-folder";
export { readImageList } from "./data/image-list";
export type { ImageListKind, ListedImage } from "./data/image-list";
export { readPreprocessor } from "./data/preprocessor";
export type { Preprocessor } from "./data/preprocessor";
export { ImageBatches, normalisePixels } from "./data/images";
export type { ImageBatchOptions, ImageSample, Normalisation } from "./data/images";
export { conversationSamples, readConversations } from "./data/jsonl";
export type { Conversation, Turn } from "./data/jsonl";
export { readBlocks } from "./data/lines";
export { entitiesOf, entityScores } from "./data/metrics-entities";
export type { Entity, EntityScore, EntityScores } from "./data/metrics-entities";
export { answerF1, exactMatch, normaliseAnswer, squadScores } from "./data/metrics-squad";
export { meteor, meteorOfTokens, meteorVariant } from "./data/meteor";
export { e2eMetricsFiles, e2eScores } from "./data/metrics-e2e";
export { bleu, cider, nist, rouge, rougeL } from "./data/metrics-text";
export type { Generated, Rouge } from "./data/metrics-text";
export { nltkTokens } from "./data/nltk-tokens";
export { porterStem } from "./data/porter";
export { readWordNet } from "./data/wordnet";
export type { WordNet } from "./data/wordnet";
export { answerPairs, pairSamples, readPairs } from "./data/pairs";
export type { TextPair } from "./data/pairs";
export { readSamsum, summaryConversations, summaryPrompt } from "./data/samsum";
export type { DialogueSummary } from "./data/samsum";
export { stratifiedSample } from "./data/stratified";
export { decodeSpans, readSquad, squadFeatures } from "./data/squad";
export type { SpanOptions, SpanScores, SquadExample, SquadFeature, SquadOptions } from "./data/squad";
export { readTagged, readTagNames, taggedSamples, tagNames } from "./data/tagged-words";
export type {
  TaggedFile,
  TaggedOptions,
  TaggedSampleOptions,
  TaggedSamples,
  TaggedSentence,
} from "./data/tagged-words";
export * from "./data/metrics";

export { generate } from "./generate/generate";
export type { Continuation, GenerateOptions, Prompt } from "./generate/options";
export type { AdapterWeights } from "./generate/weights";

export { adapterContribution } from "./analysis/contribution";
export type { Contribution, ContributionOptions } from "./analysis/contribution";
export { freezeSchedule } from "./analysis/freeze-schedule";
export type { FreezeSchedule, FreezeScheduleOptions, ScheduleMoment } from "./analysis/freeze-schedule";
export { hessianEigenvalues } from "./analysis/hessian";
export type { HessianEigenvalue, HessianOptions, HessianSpectrum } from "./analysis/hessian";
export { lossLandscape } from "./analysis/landscape";
export type { Landscape, LandscapeOptions } from "./analysis/landscape";
export type { LossVariables } from "./analysis/loss-surface";
export { memoryByMethod } from "./analysis/memory";
export type { MethodMemory, MethodMemoryOptions } from "./analysis/memory";
export { compareSensitivities } from "./analysis/sensitivity";
export type { FrozenMatrix, SensitivityOptions, SensitivityRun } from "./analysis/sensitivity";
export { compareLayers, layerSimilarity } from "./analysis/similarity";
export type { CompareOptions, LayerSimilarity, SimilarityOptions, Snapshot } from "./analysis/similarity";
export { startDeviation } from "./analysis/start-deviation";
export { subjectOf } from "./analysis/subject";
export type { AnalysisControl, NamedTensors, Subject } from "./analysis/subject";

export * as ops from "./ops/index";
