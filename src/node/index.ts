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
export type { Downloaded, DownloadOptions } from "./download";
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

/**
 * Opens a GPU through npm `webgpu`, or the one that is passed.
 * @throws DeviceError when there is no adapter.
 */
export async function createEngine(options: EngineOptions = {}): Promise<Engine> {
  const tuning = { cache: fileTuningCache(), ...options.tuning };
  return createCoreEngine({ waiting: napping, ...options, tuning, gpu: options.gpu ?? (await nodeGpu()) });
}

/** `loadModel` of a directory on disk, by its path. */
export async function loadModel(
  engine: Engine,
  directory: string | Directory,
  options?: LoadOptions,
): Promise<LoadedModel> {
  return loadCoreModel(engine, typeof directory === "string" ? await openDirectory(directory) : directory, options);
}
