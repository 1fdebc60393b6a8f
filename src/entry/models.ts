// Model families: registering one's own, and the parts that the package's own are made of.
export { registerFamily } from "../model/register";
export type { FamilyOptions } from "../model/register";
export { modelOf, projection } from "../model/compose";
export type { ModelParts } from "../model/compose";
export { createModel, loadFamily, MODEL_TYPES, withHead } from "../model/families";
export type { HeadOptions } from "../model/families";

export { isInHead, layersOf, normParameters, projectionParameters } from "../model/model";
export type {
  Activation,
  BatchSize,
  EncoderDecoder,
  Family,
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
  TiedOutput,
} from "../model/model";
export type {
  AttentionInputs,
  AttentionShape,
  AttentionSite,
  BlockSite,
  Forward,
  ForwardHooks,
  LayerStack,
  LinearSite,
  RelativePositions,
  Tie,
} from "../model/forward";
export { layerStructures } from "../model/structure";
export type { Span, Structure, StructureSizes } from "../model/structure";
export { activate, activateGate } from "../model/activation";
export { labelCount, labelNamesOf, parseConfig } from "../model/config";
export type { StoredNames } from "../model/config";

export {
  answerSpan,
  denseClassifier,
  firstTokenClassifier,
  imageClassifier,
  languageModel,
  lastTokenScore,
  pooledClassifier,
  predictionClassifier,
  taskOf,
  tokenClassifier,
} from "../model/heads";
export type {
  FinalNorm,
  FirstTokenClassifier,
  Head,
  LanguageModelHead,
  PooledClassifier,
  PredictionClassifier,
} from "../model/heads";

export { decoder, DECODER_SCHEMA } from "../model/decoder";
export type { Decoder, SubLayerNorms } from "../model/decoder";
export type { Rotation } from "../model/rotation";
export { encoderLayers } from "../model/encoder-layer";
export type { EncoderLayers, LayerModules, LayersOfModel, Passing } from "../model/encoder-layer";
export { BERT_MODULES, encoderHead, ENCODER_TASKS, textEncoder } from "../model/text-encoder";
export type { EncoderHeads, TextEncoder } from "../model/text-encoder";
export { imageOf, patchParameters, projectedPatches } from "../model/vision-encoder";
export type { VisionConfig } from "../model/vision-encoder";

export type { Shape } from "../base/shape";
export type { WeightFormat } from "../base/packed";
export { ConfigError } from "../base/errors";
export type { Recorder, Value } from "../tape/tape";
