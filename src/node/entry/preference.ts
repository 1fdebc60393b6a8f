// Learning from pairs of answers, in Node.
import { openPathsBy } from "../../io/directory-like";
import { openDirectory } from "../directory";

export * from "../../entry/preference";

openPathsBy(openDirectory);
