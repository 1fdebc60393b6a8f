import type { Directory, NewFile } from "./directory";

/** Files beside a model's weights that other programs need to use it: of its tokenizer, its chats, its texts, its images. */
const COMPANIONS = [
  "tokenizer.json",
  "tokenizer_config.json",
  "special_tokens_map.json",
  "added_tokens.json",
  "vocab.json",
  "vocab.txt",
  "merges.txt",
  "tokenizer.model",
  "spiece.model",
  "sentencepiece.bpe.model",
  "chat_template.jinja",
  "generation_config.json",
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
