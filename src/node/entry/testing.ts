// Checking and timing an op of one's own, in Node.
export * from "../../entry/testing";
