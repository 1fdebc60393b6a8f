// Adapters and models as llama.cpp loads them.
export { exportGgufAdapter } from "../gguf/adapter";
export type { GgufAdapterOptions } from "../gguf/adapter";
export { exportGgufModel } from "../gguf/model";
export type { GgufModelOptions } from "../gguf/model";
export { GGUF_FORMATS } from "../gguf/encodings";
export type { GgufFormat } from "../gguf/encodings";
export { ggufContent } from "../gguf/file";
export type { GgufMetadata, GgufTensor, GgufValue } from "../gguf/file";
