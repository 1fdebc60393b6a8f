// What trainers learn from, in Node.
export * from "../../entry/data";
export { openDirectory } from "../directory";
export { downloadModel } from "../download";
export type { Download, DownloadOptions } from "../download";
export { filePrefixStore } from "../prefix-file";
