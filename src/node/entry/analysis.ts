// Analyses, records of runs and their reports, in Node.
export * from "../../entry/analysis";
export { readRunRecord } from "../../report/record";
export type { RunFreeze, RunRecord, RunScores, RunStep } from "../../report/record";
export { RunLog } from "../../report/run-log";
export type { RunFacts } from "../../report/run-log";
export type { ReportOptions } from "../../report/save";
export { saveReport } from "../report";
