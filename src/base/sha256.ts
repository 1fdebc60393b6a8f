import { ConfigError } from "./errors";

/**
 * SHA-256 of `bytes`, by WebCrypto: 32 bytes.
 *
 * @throws ConfigError on a page without WebCrypto.
 */
export async function sha256(bytes: Uint8Array): Promise<Uint8Array> {
  // Pages that are not served over https have no `crypto.subtle`, though its type says that it is always there.
  const subtle = (globalThis.crypto as Crypto | undefined)?.subtle;
  if (!subtle) {
    throw new ConfigError(
      "Checkpoints are verified by WebCrypto, which this page does not have.",
      "Serve the page over https, or from localhost.",
    );
  }
  // No array of safetape is backed by shared memory, which `digest` would not take.
  return new Uint8Array(await subtle.digest("SHA-256", bytes as Uint8Array<ArrayBuffer>));
}

/** SHA-256 of `bytes` as 64 hexadecimal digits. */
export async function sha256Hex(bytes: Uint8Array): Promise<string> {
  return Array.from(await sha256(bytes), (byte) => byte.toString(16).padStart(2, "0")).join("");
}
