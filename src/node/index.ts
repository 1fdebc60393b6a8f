// The package itself in Node: engines find Dawn, and directories are paths.
import { openPathsBy } from "../io/directory-like";
import { openDirectory } from "./directory";

export * from "../index";
export { openDirectory } from "./directory";
export { createEngine } from "./engine";

openPathsBy(openDirectory);
