// The engine by itself, in Node.
export * from "../../entry/engine";
export { createEngine } from "../engine";
export { nodeGpu } from "../gpu";
export type { NodeGpuOptions } from "../gpu";
export { napping } from "../napping";
export { fileTuningCache, tuningPath } from "../tuning-file";
export { versions } from "../versions";
