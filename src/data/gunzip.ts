import { DataError } from "../base/errors";
import { oneLine } from "../io/json";

/**
 * The first `limit` bytes of what a gzip file holds, or all if it has fewer; no more is decompressed.
 * @param bytes of the file.
 * @param where name of the file for errors.
 * @throws DataError for a damaged file.
 */
export async function gunzipped(bytes: Uint8Array, limit: number, where: string): Promise<Uint8Array> {
  // Blob takes no array that might lie in shared memory; this one is the caller's own copy.
  const reader = new Blob([bytes as Uint8Array<ArrayBuffer>])
    .stream()
    .pipeThrough(new DecompressionStream("gzip"))
    .getReader();
  const parts: Uint8Array[] = [];
  let length = 0;
  try {
    while (length < limit) {
      const { value, done } = await reader.read();
      if (done) break;
      parts.push(value);
      length += value.length;
    }
  } catch (cause) {
    // The stream throws Errors; a catch clause cannot say so.
    const fact = `${where} cannot be decompressed: ${oneLine((cause as Error).message)}`;
    throw new DataError(fact, "the file is damaged; fetch it again", { cause });
  }
  await reader.cancel().catch(() => undefined);
  const result = new Uint8Array(Math.min(length, limit));
  let at = 0;
  for (const part of parts) {
    result.set(part.subarray(0, result.length - at), at);
    at += Math.min(part.length, result.length - at);
  }
  return result;
}
