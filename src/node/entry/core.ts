// What training needs, in Node.
import { openPathsBy } from "../../io/directory-like";
import { openDirectory } from "../directory";

export * from "../../core";
export { createEngine } from "../engine";

openPathsBy(openDirectory);
