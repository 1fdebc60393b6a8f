// Ops: as functions of symbolic values, for the bodies of functions of tensors, and as declarations, for recorders.
export * from "../function/everyday-ops";
export * from "../function/ops";
export { ops } from "../ops/index";
export { defineOp } from "../op/declaration";
export type * from "../op/declaration";
export type { MatmulAttributes } from "../ops/matmul";
export type { LinearAttributes } from "../ops/linear";
export type { GeluAttributes } from "../ops/gelu";
