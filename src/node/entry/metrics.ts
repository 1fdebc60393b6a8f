// Metrics of predictions and of generated texts, in Node.
import { openPathsBy } from "../../io/directory-like";
import { openDirectory } from "../directory";

export * from "../../entry/metrics";
export { loadWordNet } from "../wordnet";

openPathsBy(openDirectory);
