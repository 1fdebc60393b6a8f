import type { Directory, NewFile } from "./directory";
import { SENTENCEPIECE_FILES, TEXT_FILES } from "./tokenizer-files";

/** Files beside a model's weights that other programs need to use it: of its tokenizer, its chats, its texts, its images. */
export const COMPANIONS: readonly string[] = [
  ...TEXT_FILES,
  ...SENTENCEPIECE_FILES,
  "vocab.json",
  "vocab.txt",
  "merges.txt",
  "preprocessor_config.json",
  "processor_config.json",
];

/**
 * The files beside a model's weights that another directory lacks. One that cannot be read, since a server is gone, is left out:
 * the weights matter more.
 */
export async function companionFiles(from: Directory, to: Directory): Promise<NewFile[]> {
  const files: NewFile[] = [];
  for (const file of COMPANIONS) {
    if ((await to.size(file)) !== undefined) continue;
    const content = await contentOf(from, file).catch(() => undefined);
    if (content) files.push({ file, content });
  }
  return files;
}

async function contentOf(directory: Directory, file: string): Promise<Uint8Array | undefined> {
  return (await directory.size(file)) === undefined ? undefined : directory.read(file);
}
