import { DataError } from "../../base/errors";
import { gunzipped } from "../../data/gunzip";
import { checkRange } from "../../io/directory";
import type { Directory } from "../../io/directory";

export const GZIP = ".gz";
/** A damaged or hostile file of a few kilobytes may decompress to more than any memory. */
const MOST_BYTES = 2 ** 31;

const plainName = (file: string): string => (file.endsWith(GZIP) ? file.slice(0, -GZIP.length) : file);

/**
 * A folder in which a file that is only there compressed, as NAME.gz, is NAME.
 * @param chosen a file that is read where its name without .gz is asked for, also where both are there.
 */
export function unzipped(folder: Directory, chosen?: string): Directory {
  const stored = async (file: string): Promise<string | undefined> => {
    const compressed = file + GZIP;
    const isPlain = chosen !== compressed && (await folder.size(file)) !== undefined;
    return isPlain || (await folder.size(compressed)) === undefined ? undefined : compressed;
  };
  const inflated = async (file: string): Promise<Uint8Array> => {
    const where = `${file} in ${folder.name}`;
    const bytes = await gunzipped(await folder.read(file), MOST_BYTES + 1, where);
    if (bytes.length <= MOST_BYTES) return bytes;
    throw new DataError(`${where} holds more than 2 GiB`, "divide it");
  };
  return {
    ...folder,
    async list() {
      return [...new Set((await folder.list()).map(plainName))].sort();
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
