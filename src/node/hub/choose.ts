import { DownloadError } from "../../base/errors";
import { ADAPTER_CONFIG_FILE, ADAPTER_WEIGHTS_FILE } from "../../io/peft";
import { CONFIG_FILE, INDEX_FILE, WEIGHTS_FILE } from "../../io/checkpoint";

/** A file of a repository, as the Hub lists it. */
export interface Listed {
  readonly path: string;
  readonly size: number;
  /** Git's SHA-1 of the file (of its pointer, for a file in LFS). */
  readonly oid?: string;
  /** SHA-256 and size of a file in LFS. */
  readonly lfs?: { readonly oid: string; readonly size: number };
}

/** What a file must be. */
export interface Promised {
  readonly file: string;
  readonly size: number;
  readonly algorithm: "sha256" | "git-sha1";
  readonly hash: string;
}

/** Read beside weights and configuration, where a model has them. */
const BESIDE = ["tokenizer.json", "tokenizer_config.json", "preprocessor_config.json"];

/**
 * What safetape reads of a model or an adapter, all but the shards that an index names. @throws DownloadError where there is
 * neither, or weights are pickles only.
 */
export function chosenFiles(listed: readonly Listed[], what: string): Promised[] {
  const paths = new Set(listed.map(({ path }) => path));
  const isAdapter = paths.has(ADAPTER_CONFIG_FILE) && !paths.has(CONFIG_FILE);
  const weights = isAdapter ? [ADAPTER_WEIGHTS_FILE] : paths.has(WEIGHTS_FILE) ? [WEIGHTS_FILE] : [INDEX_FILE];
  const config = isAdapter ? ADAPTER_CONFIG_FILE : CONFIG_FILE;
  if (!paths.has(config)) {
    throw new DownloadError(`${what} has no ${CONFIG_FILE}`, "choose a model of transformers, or an adapter of PEFT");
  }
  if (!weights.every((file) => paths.has(file))) {
    const pickle = [...paths].find((path) => /\.(?:bin|pt|pth|ckpt)$/.test(path));
    throw new DownloadError(
      `${what} has no ${isAdapter ? ADAPTER_WEIGHTS_FILE : WEIGHTS_FILE}`,
      pickle === undefined
        ? "choose a model with safetensors files"
        : "its weights are a pickle, which is never loaded",
    );
  }
  const wanted = [config, ...BESIDE.filter((file) => paths.has(file)), ...weights];
  return wanted.map((file) => promised(listed, file, what));
}

/** A listed file with its hash. @throws DownloadError where it is not listed, or has no hash to hold it against. */
export function promised(listed: readonly Listed[], file: string, what: string): Promised {
  const found = listed.find(({ path }) => path === file);
  if (!found)
    throw new DownloadError(`${what} has no file ${JSON.stringify(file.slice(0, 200))}`, "choose another revision");
  const { lfs } = found;
  const size = lfs?.size ?? found.size;
  const hash = lfs?.oid ?? found.oid ?? "";
  const isWhole = Number.isSafeInteger(size) && size >= 0;
  if (isWhole && (lfs ? /^[0-9a-f]{64}$/ : /^[0-9a-f]{40}$/).test(hash)) {
    return { file, size, algorithm: lfs ? "sha256" : "git-sha1", hash };
  }
  throw new DownloadError(`${what} tells no size and hash of ${file}`, "it could not be checked: fetch it another way");
}
