// Adapters and models as llama.cpp loads them, in Node.
export * from "../../entry/gguf";
