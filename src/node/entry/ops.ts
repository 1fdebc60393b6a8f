// Ops, in Node.
export * from "../../entry/ops";
