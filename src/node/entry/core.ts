// What training needs, in Node.
export * from "../../core";
export { createEngine } from "../engine";
export { loadModel } from "../load-model";
