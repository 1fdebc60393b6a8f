// Checking and timing an op of one's own.
export { benchOp, casesToTime } from "../testing/bench-op";
export type { BenchOptions, OpTiming } from "../testing/bench-op";
export { benchOps, benchRatio, parseBenchResult } from "../testing/bench-result";
export type { BenchAllOptions, BenchResult, BenchSubject, BenchTiming } from "../testing/bench-result";
export { caseOfShapes, readShapes } from "../testing/case-of-shapes";
export type { Shapes } from "../testing/case-of-shapes";
export { OPS } from "../testing/ops";
export { measureCeiling, quickCeiling } from "../testing/ceiling";
export type { Ceiling, CeilingOptions, Rates } from "../testing/ceiling";
export { checkOp, NARROW_LIMITS } from "../testing/check-op";
export type { OpProblem } from "../testing/check-op";
