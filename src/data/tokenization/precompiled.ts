import type { AlignedText } from "./aligned-text";
import type { Change } from "./aligned-text";
import { UnsupportedStep } from "./step";

/**
 * SentencePiece's compiled table of replacements: a double array (Darts-clone) of the texts to replace, and the zero-terminated
 * texts that replace them. As in Hugging Face's tokenizers, the shortest text that begins a cluster of characters replaces
 * the cluster.
 * @throws UnsupportedStep for a damaged table.
 */
export function precompiled(base64: string): (text: AlignedText) => AlignedText {
  const bytes = decodeBase64(base64);
  const size = bytes.length < 4 ? Infinity : new DataView(bytes.buffer).getUint32(0, true);
  if (size % 4 !== 0 || 4 + size > bytes.length)
    throw new UnsupportedStep("precompiled_charsmap of Precompiled is damaged");
  const units = new Uint32Array(bytes.slice(4, 4 + size).buffer);
  const replacements = bytes.subarray(4 + size);
  const decoder = new TextDecoder();
  const encoder = new TextEncoder();
  const known = new Map<string, string | undefined>();

  const lookUp = (text: string): string | undefined => {
    let node = offsetOf(units[0] ?? 0);
    for (const byte of encoder.encode(text)) {
      if (byte === 0) return undefined;
      node ^= byte;
      const unit = units[node];
      if (unit === undefined || (unit & 0x800000ff) >>> 0 !== byte) return undefined;
      node ^= offsetOf(unit);
      if (((unit >>> 8) & 1) === 0) continue;
      const start = (units[node] ?? 0) & 0x7fffffff;
      const end = replacements.indexOf(0, start);
      return decoder.decode(replacements.subarray(start, end < 0 ? undefined : end));
    }
    return undefined;
  };
  const replacementOf = (text: string): string | undefined => {
    if (!known.has(text)) known.set(text, lookUp(text));
    return known.get(text);
  };
  const segmenter = new Intl.Segmenter("en", { granularity: "grapheme" });
  return (aligned) => {
    // Every character of such a text is a cluster, and few tables replace one of them.
    if (PRINTABLE_ASCII.test(aligned.text) && ![...aligned.text].some((own) => replacementOf(own) !== undefined)) {
      return aligned;
    }
    const changes: Change[] = [];
    const state = { isChanged: false };
    const replaced = (old: string): boolean => {
      const replacement = replacementOf(old);
      if (replacement === undefined) return false;
      state.isChanged = true;
      pushReplacement(changes, [...old].length, [...replacement]);
      return true;
    };
    for (const { segment } of segmenter.segment(aligned.text)) {
      if (encoder.encode(segment).length < MAX_CLUSTER_BYTES && replaced(segment)) continue;
      for (const character of segment) if (!replaced(character)) changes.push([character, 0]);
    }
    return state.isChanged ? aligned.change(changes) : aligned;
  };
}

const PRINTABLE_ASCII = /^[ -~]*$/;
/** Longer clusters are replaced character by character. */
const MAX_CLUSTER_BYTES = 6;

function offsetOf(unit: number): number {
  return (unit >>> 10) << ((unit & 0x200) >>> 6);
}

/** A character beyond those that were replaced is inserted, and the last one takes the place of those that it lacks. */
function pushReplacement(changes: Change[], old: number, characters: readonly string[]): void {
  const surplus = characters.length - old;
  characters.forEach((character, i) => {
    const isLast = i === characters.length - 1;
    changes.push([character, i >= old ? 1 : isLast ? Math.min(0, surplus) : 0]);
  });
  if (characters.length > 0 || changes.length === 0) return;
  const [character, change] = changes.pop()!;
  changes.push([character, change - old]);
}

function decodeBase64(text: string): Uint8Array<ArrayBuffer> {
  try {
    return Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
  } catch {
    throw new UnsupportedStep("precompiled_charsmap of Precompiled is not Base64");
  }
}
