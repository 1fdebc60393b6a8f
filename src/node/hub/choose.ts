import { DownloadError } from "../../base/errors";
import { ADAPTER_CONFIG_FILE, ADAPTER_WEIGHTS_FILE } from "../../io/peft";
import { CONFIG_FILE, INDEX_FILE, WEIGHTS_FILE } from "../../io/checkpoint";
import { SENTENCEPIECE_FILES, TEXT_FILES } from "../../io/tokenizer-files";

/** A file in the Hub's list of a repository. */
export interface ListedFile {
  readonly path: string;
  readonly size: number;
  /** Git's SHA-1 of the file; for a file in LFS that of its pointer. */
  readonly oid?: string;
  /** SHA-256 and size of a file in LFS. */
  readonly lfs?: { readonly oid: string; readonly size: number };
}

/** The size and hash that a downloaded file must have. */
export interface ExpectedFile {
  readonly file: string;
  readonly size: number;
  readonly algorithm: "sha256" | "git-sha1";
  readonly hash: string;
}

/** Files that are downloaded if a model has them, in addition to weights and configuration. */
const OPTIONAL_FILES: readonly string[] = [...TEXT_FILES, "preprocessor_config.json"];

/**
 * The files of a model or an adapter that safetape reads, without the shards that its index names.
 * @param title the repository in error messages.
 * @throws DownloadError if the repository has neither a model nor an adapter, or only pickled weights.
 */
export function filesToDownload(listed: readonly ListedFile[], title: string): ExpectedFile[] {
  const paths = new Set(listed.map(({ path }) => path));
  const isAdapter = paths.has(ADAPTER_CONFIG_FILE) && !paths.has(CONFIG_FILE);
  const weights = isAdapter ? [ADAPTER_WEIGHTS_FILE] : paths.has(WEIGHTS_FILE) ? [WEIGHTS_FILE] : [INDEX_FILE];
  const config = isAdapter ? ADAPTER_CONFIG_FILE : CONFIG_FILE;
  if (!paths.has(config)) {
    throw new DownloadError(`${title} has no ${CONFIG_FILE}`, "choose a model of transformers, or an adapter of PEFT");
  }
  if (!weights.every((file) => paths.has(file))) {
    const pickle = [...paths].find((path) => /\.(?:bin|pt|pth|ckpt)$/.test(path));
    throw new DownloadError(
      `${title} has no ${isAdapter ? ADAPTER_WEIGHTS_FILE : WEIGHTS_FILE}`,
      pickle === undefined
        ? "choose a model with safetensors files"
        : "its weights are a pickle, which is never loaded",
    );
  }
  const tokenizer = paths.has("tokenizer.json") ? [] : SENTENCEPIECE_FILES;
  const files = [config, ...[...OPTIONAL_FILES, ...tokenizer].filter((file) => paths.has(file)), ...weights];
  return files.map((file) => expectedFile(listed, file, title));
}

/** A listed file with its size and hash. @throws DownloadError if it is not listed, or without a size and a hash. */
export function expectedFile(listed: readonly ListedFile[], file: string, title: string): ExpectedFile {
  const entry = listed.find(({ path }) => path === file);
  if (!entry)
    throw new DownloadError(`${title} has no file ${JSON.stringify(file.slice(0, 200))}`, "choose another revision");
  const { lfs } = entry;
  const size = lfs?.size ?? entry.size;
  const hash = lfs?.oid ?? entry.oid ?? "";
  const isSize = Number.isSafeInteger(size) && size >= 0;
  if (isSize && (lfs ? /^[0-9a-f]{64}$/ : /^[0-9a-f]{40}$/).test(hash)) {
    return { file, size, algorithm: lfs ? "sha256" : "git-sha1", hash };
  }
  throw new DownloadError(
    `${title} lists no size and hash of ${file}`,
    "the file could not be checked: fetch it another way",
  );
}
