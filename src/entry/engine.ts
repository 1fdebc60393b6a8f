// The engine by itself: a GPU, tensors, functions of tensors with their gradients, optimizers, and ops of one's own.
export * from "../base/errors";
export type { ByteCount } from "../base/bytes";
export { WEIGHT_FORMATS } from "../base/packed";
export type { WeightFormat } from "../base/packed";
export type { Random, RandomState } from "../base/random";
export type { Shape } from "../base/shape";

export { createEngine, Engine } from "../engine";
export type { EngineOptions } from "../engine";
export { Tensor } from "../tensor";
export type { TensorData } from "../tensor";
export type { AdapterInfo, Waiting } from "../gpu/device";
export { LIFETIMES, sumBytes } from "../gpu/ledger";
export type { Bytes, Ledger, Lifetime } from "../gpu/ledger";
export type { Tuned, TuningCache, TuningRecord, Verdict, VerdictRecord } from "../gpu/tuning/cache";
export { indexedDbTuningCache } from "../gpu/tuning/indexed-db";
export { memoryTuningCache } from "../gpu/tuning/memory";
export type { KernelChoice, TuningOptions } from "../gpu/tuning/tuner";
export { VARIANT_NAMES } from "../gpu/variants";
export type { VariantName } from "../gpu/variants";

export { compute } from "../function/compute";
export type { Computed } from "../function/compute";
export type { Dimensions, InputData, InputDeclaration, OpenShape } from "../function/dimensions";
export { frozen, full, normal, ones, uniform, values, zeros } from "../function/parameters";
export type { ParameterDeclaration, ParameterNode, ParameterTree, ParameterValues } from "../function/parameters";
export { TensorFunction, tensorFunction } from "../function/tensor-function";
export type {
  Call,
  CallOptions,
  FunctionOptions,
  GradientOptions,
  LiveChange,
  StepOptions,
  StepResult,
  ValueAndGrad,
} from "../function/tensor-function";
export type { Body, BodyResult, OutputName, Scope } from "../function/trace";

export { adafactor } from "../optimizer/adafactor";
export type { AdafactorOptions } from "../optimizer/adafactor";
export { adam } from "../optimizer/adam";
export { lion } from "../optimizer/lion";
export type { LionOptions } from "../optimizer/lion";
export { muon } from "../optimizer/muon";
export type { MuonOptions } from "../optimizer/muon";
export { sgd } from "../optimizer/sgd";
export type { SgdOptions } from "../optimizer/sgd";
export { adamW } from "../optimizer/adamw";
export type { OptimizerOptions } from "../optimizer/adamw";
export type { Optimizer, UpdatedTensor, UpdateMoment, UpdateTensors } from "../optimizer/optimizer";
export type { CommonOptions, CommonSettings, ParameterGroup } from "../optimizer/settings";

export { threeRate } from "../train/loop/learning-rate";
export type { ScheduleOptions, ThreeRateSchedule, WarmupSchedule } from "../train/options";

export { defineOp } from "../op/declaration";
export type * from "../op/declaration";
export type { Kernel } from "../op/kernel";
export type { AbsorbedLaunch, Absorption, KernelFeature, Launch, LaunchShape, SlotRange, Variant } from "../op/launch";
export type { Limits } from "../op/limits";
export { ACTIVATION_FORMATS } from "../op/pack";
export type { ActivationFormat } from "../op/pack";
export type { ChromeEvent, ChromeTrace, Dispatch, Trace } from "../run/trace";
export { explain } from "../tape/explain";
export type { Explanation, KeptValue, Rebuilt } from "../tape/explain";
export { plan as planTape } from "../tape/plan";
export type { Plan, PlannedLaunch, PlanOptions, Port, SavedValue, Target } from "../tape/plan";
export { Recorder, recorderOf } from "../tape/tape";
export type { Node, Origin, Tape, Value } from "../tape/tape";
export type { Dtype } from "../base/dtype";
export type { PlannedBuffer } from "../tape/buffers";
export type { Phase } from "../tape/emit";
export type { Keeper } from "../tape/saves";
