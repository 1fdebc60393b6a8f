// All entries, for CommonJS: an entry is one of these namespaces.
export * as analysis from "./analysis";
export * as core from "../core";
export * as data from "./data";
export * as engine from "./engine";
export * as index from "../index";
export * as metrics from "./metrics";
export * as gguf from "./gguf";
export * as models from "./models";
export * as ops from "./ops";
export * as preference from "./preference";
export * as testing from "./testing";
