// The package itself in Node: engines find Dawn, and models are loaded from paths.
export * from "../index";
export { openDirectory } from "./directory";
export { createEngine } from "./engine";
export { loadModel } from "./load-model";
