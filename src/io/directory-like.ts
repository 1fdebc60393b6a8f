import type { Directory } from "./directory";

/**
 * A directory, or where one is. In Node, a string or a `file:` address is a path on disk, relative to the current directory,
 * and an address that begins with http a directory on a server. In a page, a string is an address relative to the page.
 */
export type DirectoryLike = Directory | string | URL;

export interface OpenOptions {
  /** Makes the directory and its parents on disk if they do not exist. Default false. */
  readonly create?: boolean;
}

type OpenPath = (path: string | URL, options: OpenOptions) => Promise<Directory>;

/** How paths on disk are opened; undefined in a page. */
let openPath: OpenPath | undefined;

/** Says how paths on disk are opened. The package's entries for Node call it; those for pages do not. */
export function openPathsBy(open: OpenPath): void {
  openPath = open;
}

/**
 * The directory that is meant.
 * @throws FileFormatError for a path that is not there and not to be created, ConfigError for an invalid address.
 */
export async function directoryAt(place: DirectoryLike, options: OpenOptions = {}): Promise<Directory> {
  if (typeof place !== "string" && !(place instanceof URL)) return place;
  if (openPath && !/^https?:/i.test(String(place))) return openPath(place, options);
  // Loaded when it is needed: most pages have their directories already.
  const { fetchDirectory } = await import("./fetch-directory");
  return fetchDirectory(place);
}
