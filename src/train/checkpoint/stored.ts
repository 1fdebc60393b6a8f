// What reads, makes and writes checkpoints: loaded by runs that save, resume or recover, as one part.
export { saveCheckpoint } from "./directory";
export { checkpointBytes, checkpointOf, openShared } from "./enter-world";
export { runIdentity } from "./identity";
export { captureRun, copyToHost, readPosition } from "./record";
export { originOf, resumption } from "./resume";
export { tooManyLosses } from "./too-many-losses";
