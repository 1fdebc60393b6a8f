/**
 * GPT-2's alphabet of bytes: printable ones are their own characters, and the others have the characters from U+0100 on, in
 * order.
 */
const CHARACTERS: readonly string[] = (() => {
  const isPrintable = (byte: number): boolean =>
    (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || (byte >= 0xae && byte <= 0xff);
  let next = 0x100;
  return Array.from({ length: 256 }, (_, byte) => String.fromCodePoint(isPrintable(byte) ? byte : next++));
})();

const BYTES: ReadonlyMap<string, number> = /* @__PURE__ */ new Map(
  CHARACTERS.map((character, byte) => [character, byte]),
);
const ENCODER = /* @__PURE__ */ new TextEncoder();

/** The space in the alphabet. */
export const SPACE = "\u0120";

/** The UTF-8 bytes of a character in the alphabet. */
export function byteCharacters(character: string): string {
  const code = character.charCodeAt(0);
  if (code < 0x80) return CHARACTERS[code]!;
  return Array.from(ENCODER.encode(character), (byte) => CHARACTERS[byte]!).join("");
}

/** The bytes of a token. One with a character outside of the alphabet is an added token, which spells itself. */
export function tokenBytes(token: string): readonly number[] {
  const bytes = Array.from(token, (character) => BYTES.get(character));
  return bytes.every((byte) => byte !== undefined) ? bytes : [...ENCODER.encode(token)];
}
