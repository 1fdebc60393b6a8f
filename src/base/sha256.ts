import { ConfigError } from "./errors";

/** SHA-256 of some bytes, by WebCrypto. @throws ConfigError on a page that has none. */
export async function sha256(bytes: Uint8Array): Promise<Uint8Array> {
  const subtle = (globalThis.crypto as Crypto | undefined)?.subtle;
  if (!subtle) {
    throw new ConfigError(
      "Checkpoints are checked by WebCrypto, which this page does not have.",
      "Serve the page over https, or from localhost.",
    );
  }
  return new Uint8Array(await subtle.digest("SHA-256", bytes as Uint8Array<ArrayBuffer>));
}

/** The same as hexadecimal digits. */
export async function sha256Hex(bytes: Uint8Array): Promise<string> {
  return Array.from(await sha256(bytes), (byte) => byte.toString(16).padStart(2, "0")).join("");
}
