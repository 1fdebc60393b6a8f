// Analyses, records of runs and their reports, in Node.
import { openPathsBy } from "../../io/directory-like";
import { openDirectory } from "../directory";

export * from "../../entry/analysis";
export { readRunRecord } from "../../report/record";
export type { RunCompaction, RunFreeze, RunRecord, RunScores, RunStep, RunTriedRate } from "../../report/record";
export { RunLog } from "../../report/run-log";
export type { RunFacts } from "../../report/run-log";
export type { ReportOptions } from "../../report/save";
export { saveReport } from "../report";
export { openSummaryWriter } from "../summary-writer";

openPathsBy(openDirectory);
