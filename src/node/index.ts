import { createEngine as createCoreEngine } from "../engine";
import type { Engine, EngineOptions } from "../engine";
import type { Directory } from "../io/directory";
import { loadModel as loadCoreModel } from "../io/load-model";
import type { LoadedModel, LoadOptions } from "../io/load-model";
import { openDirectory } from "./directory";
import { nodeGpu } from "./gpu";
import { napping } from "./napping";
import { fileTuningCache } from "./tuning-file";

export * from "../index";
export { openDirectory } from "./directory";
export { downloadModel } from "./download";
export type { Download, DownloadOptions } from "./download";
export { nodeGpu } from "./gpu";
export type { NodeGpuOptions } from "./gpu";
export { napping } from "./napping";
export { filePrefixStore } from "./prefix-file";
export { RunLog } from "../report/run-log";
export type { RunFacts } from "../report/run-log";
export { readRunRecord } from "../report/record";
export type { RunFreeze, RunRecord, RunScores, RunStep } from "../report/record";
export type { ReportOptions } from "../report/save";
export { saveReport } from "./report";
export { versions } from "./versions";
export { fileTuningCache, tuningPath } from "./tuning-file";
export { loadWordNet } from "./wordnet";

/**
 * Opens an engine on `options.gpu`, by default the GPU of this machine through the npm package `webgpu`. Tuned kernels are
 * remembered in a file of the user (`tuningPath`).
 * @throws DeviceError if there is no adapter.
 */
export async function createEngine(options: EngineOptions = {}): Promise<Engine> {
  const tuning = { cache: fileTuningCache(), ...options.tuning };
  return createCoreEngine({ waiting: napping, ...options, tuning, gpu: options.gpu ?? (await nodeGpu()) });
}

/** Loads a model from a directory, or from the path of one on disk. */
export async function loadModel(
  engine: Engine,
  directory: string | Directory,
  options?: LoadOptions,
): Promise<LoadedModel> {
  return loadCoreModel(engine, typeof directory === "string" ? await openDirectory(directory) : directory, options);
}
