// Metrics of predictions and of generated texts, in Node.
export * from "../../entry/metrics";
export { loadWordNet } from "../wordnet";
