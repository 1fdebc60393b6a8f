// What trainers learn from, in Node.
import { openPathsBy } from "../../io/directory-like";
import { openDirectory } from "../directory";

export * from "../../entry/data";
export { openDirectory } from "../directory";
export { downloadModel } from "../download";
export type { Download, DownloadOptions } from "../download";
export { uploadModel } from "../upload";
export type { Upload, UploadOptions } from "../upload";
export { filePrefixStore } from "../prefix-file";
export type { HubAccess } from "../hub/client";
export type { RetryOptions } from "../hub/fetch";

openPathsBy(openDirectory);
