// @ts-check
// Writes models of SentencePiece, in Protocol Buffers' wire format.

/**
 * @typedef {{ text: string, score?: number, kind?: number }} Piece a piece of a vocabulary; kinds are 1 normal, 2 unknown, 3 control,
 *   4 user-defined, 6 byte
 * @typedef {{ algorithm?: number, byteFallback?: boolean, replacements?: Uint8Array, addsPrefix?: boolean, removesSpaces?: boolean }} Options
 */

/** @param {number} value @returns {number[]} */
const varint = (value) => (value < 128 ? [value] : [(value % 128) + 128, ...varint(Math.floor(value / 128))]);

/** @param {number} number @param {Uint8Array | number[]} bytes @returns {number[]} */
const bytesField = (number, bytes) => [...varint(8 * number + 2), ...varint(bytes.length), ...bytes];

/** @param {number} number @param {number} value @returns {number[]} */
const numberField = (number, value) => [...varint(8 * number), ...varint(value)];

/** @param {Piece} piece @returns {number[]} */
function pieceField({ text, score = 0, kind = 1 }) {
  const float = new Uint8Array(Float32Array.of(score).buffer);
  const fields = [
    ...bytesField(1, new TextEncoder().encode(text)),
    ...varint(8 * 2 + 5),
    ...float,
    ...numberField(3, kind),
  ];
  return bytesField(1, fields);
}

/**
 * The bytes of a model.
 * @param {readonly Piece[]} pieces
 * @param {Options} [options] as SentencePiece's defaults: Unigram (1), which adds a space before a text and removes extra ones
 * @returns {Uint8Array}
 */
export function sentencePieceModel(pieces, options = {}) {
  const { algorithm = 1, byteFallback = false, replacements, addsPrefix = true, removesSpaces = true } = options;
  const trainer = [...numberField(3, algorithm), ...numberField(35, Number(byteFallback))];
  const normalizer = [
    ...(replacements ? bytesField(2, replacements) : []),
    ...numberField(3, Number(addsPrefix)),
    ...numberField(4, Number(removesSpaces)),
  ];
  const parts = [...pieces.map(pieceField), bytesField(2, trainer), bytesField(3, normalizer)];
  const bytes = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    bytes.set(part, at);
    at += part.length;
  }
  return bytes;
}
