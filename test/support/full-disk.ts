import type { Directory, FileContent, NewFile } from "../../src/io/directory";

/** The error that Node throws if a disk is full. */
const noSpace = (): Error => Object.assign(new Error("ENOSPC: no space left on device"), { code: "ENOSPC" });

/** A directory in which each write fails after `freeBytes` bytes, as on a disk that is full then. */
export function withFreeSpace(directory: Directory, freeBytes: number): Directory {
  let free = freeBytes;
  async function* limited(content: FileContent): AsyncGenerator<Uint8Array> {
    for await (const piece of content instanceof Uint8Array ? [content] : content) {
      // As on a disk, the bytes that fit are written.
      if (piece.length > free) {
        yield piece.subarray(0, free);
        throw noSpace();
      }
      free -= piece.length;
      yield piece;
    }
  }
  const writeTogether = async (files: readonly NewFile[]): Promise<void> => {
    free = freeBytes;
    await directory.writeTogether(files.map(({ file, content }) => ({ file, content: limited(content) })));
  };
  return { ...directory, write: (file, content) => writeTogether([{ file, content }]), writeTogether };
}
