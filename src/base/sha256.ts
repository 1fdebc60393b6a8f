import { ConfigError } from "./errors";

/**
 * WebCrypto's functions.
 * @param what in the error: what is done by them.
 * @throws ConfigError on a page without WebCrypto.
 */
export function subtleCrypto(what: string): SubtleCrypto {
  // Pages that are not served over https have no `crypto.subtle`, though its type says that it is always there.
  const subtle = (globalThis.crypto as Crypto | undefined)?.subtle;
  if (subtle) return subtle;
  throw new ConfigError(
    `${what} by WebCrypto, which this page does not have.`,
    "Serve the page over https, or from localhost.",
  );
}

/**
 * SHA-256 of `bytes`, by WebCrypto: 32 bytes.
 *
 * @throws ConfigError on a page without WebCrypto.
 */
export async function sha256(bytes: Uint8Array): Promise<Uint8Array> {
  // No array of safetape is backed by shared memory, which `digest` would not take.
  const data = bytes as Uint8Array<ArrayBuffer>;
  return new Uint8Array(await subtleCrypto("Checkpoints are verified").digest("SHA-256", data));
}

/** Two hexadecimal digits for each byte. */
export const hex = (bytes: Uint8Array): string =>
  Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");

/** SHA-256 of `bytes` as 64 hexadecimal digits. */
export const sha256Hex = async (bytes: Uint8Array): Promise<string> => hex(await sha256(bytes));
