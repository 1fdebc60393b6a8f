/** Tokens that would make the last `size` tokens of a text ones that it has had in a row before; none for a size of 0. */
export function repeatedTokens(text: readonly number[], size: number): ReadonlySet<number> {
  const found = new Set<number>();
  if (size === 0 || text.length < size) return found;
  const prefix = text.slice(text.length - size + 1);
  for (let start = 0; start + size <= text.length; start++) {
    if (prefix.every((token, i) => token === text[start + i])) found.add(text[start + size - 1]!);
  }
  return found;
}
