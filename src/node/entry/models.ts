// Model families, in Node.
export * from "../../entry/models";
