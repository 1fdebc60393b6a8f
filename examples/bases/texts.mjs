/** Writes JSON files by name. @returns the directory. */
export async function written(directory, files) {
  for (const [name, content] of Object.entries(files)) {
    await directory.write(name, new TextEncoder().encode(`${JSON.stringify(content)}\n`));
  }
  return directory;
}

/** The tokens of lines, one after the other, without special ones. */
export function idsOf(tokenizer, lines) {
  const parts = lines.map((line) => tokenizer.encode(line, undefined, { specialTokens: false }).ids);
  const ids = new Int32Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    ids.set(part, at);
    at += part.length;
  }
  return ids;
}

/** Consecutive blocks of so many ids. The rest is left out. */
export function blocksOf(ids, length) {
  const count = Math.floor(ids.length / length);
  return Array.from({ length: count }, (_, i) => ids.subarray(i * length, (i + 1) * length));
}
