import { promisify } from "node:util";
import { gunzip } from "node:zlib";
import { FileFormatError } from "../../base/errors";
import { checkRange } from "../../io/directory";
import type { Directory } from "../../io/directory";
import { oneLine } from "../../io/json";

export const GZIP = ".gz";
/** Larger files are refused: a damaged or hostile one of a few kilobytes may decompress to more than any memory. */
const MOST_BYTES = 2 ** 31;

/** A folder in which a file that is only there compressed, as NAME.gz, is NAME. */
export function unzipped(folder: Directory): Directory {
  const stored = async (file: string): Promise<string | undefined> =>
    (await folder.size(file)) === undefined && (await folder.size(file + GZIP)) !== undefined ? file + GZIP : undefined;
  const inflated = async (file: string): Promise<Uint8Array> => {
    try {
      return await promisify(gunzip)(await folder.read(file), { maxOutputLength: MOST_BYTES });
    } catch (cause) {
      if (cause instanceof FileFormatError) throw cause;
      // zlib throws Errors; a catch clause cannot say so.
      const reason = oneLine((cause as Error).message);
      throw new FileFormatError(
        `${file} in ${folder.name} cannot be decompressed: ${reason}.`,
        "Fetch it again; a file may have 2 GiB at most.",
        { cause },
      );
    }
  };
  return {
    ...folder,
    async list() {
      const names = await folder.list();
      return [...new Set(names.map((file) => (file.endsWith(GZIP) ? file.slice(0, -GZIP.length) : file)))].sort();
    },
    async size(file) {
      const compressed = await stored(file);
      return compressed === undefined ? folder.size(file) : (await inflated(compressed)).length;
    },
    async read(file, start = 0, end) {
      const compressed = await stored(file);
      if (compressed === undefined) return folder.read(file, start, end);
      const bytes = await inflated(compressed);
      checkRange(compressed, folder.name, bytes.length, start, end ?? bytes.length);
      return bytes.slice(start, end);
    },
  };
}
