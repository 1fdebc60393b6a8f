// All entries in Node as one module, for scripts that load the build of a checkout by its path.
export * from "./index";
export * from "./entry/analysis";
export * from "./entry/core";
export * from "./entry/data";
export * from "./entry/distributed";
export * from "./entry/engine";
export * from "./entry/gguf";
export * from "./entry/metrics";
export * from "./entry/models";
export * from "./entry/preference";
// Two entries have these names: LoRA with all initialisations, and with its own; full tuning, and a constant tensor; a span of an answer, and
// one of a structure.
export { full, lora } from "./index";
export type { Span } from "./entry/data";
