import type { Directory, FileContent, NewFile } from "../../src/io/directory";

/** An error as Node gives it for a disk without room. */
const noSpace = (): Error => Object.assign(new Error("ENOSPC: no space left on device"), { code: "ENOSPC" });

/** A directory on a disk with room for so many more bytes: each write fails at the byte after them. */
export function fullAt(directory: Directory, freeBytes: number): Directory {
  let free = freeBytes;
  async function* limited(content: FileContent): AsyncGenerator<Uint8Array> {
    for await (const piece of content instanceof Uint8Array ? [content] : content) {
      // As a disk does it: what fits is written.
      if (piece.length > free) {
        yield piece.subarray(0, free);
        throw noSpace();
      }
      free -= piece.length;
      yield piece;
    }
  }
  const put = async (files: readonly NewFile[]): Promise<void> => {
    free = freeBytes;
    await directory.writeTogether(files.map(({ file, content }) => ({ file, content: limited(content) })));
  };
  return { ...directory, write: (file, content) => put([{ file, content }]), writeTogether: put };
}
