/** What a JPEG says of itself before its pixels. */
export interface JpegHeader {
  /** In pixels. */
  readonly width: number;
  readonly height: number;
  /** Bits of a value. */
  readonly precision: number;
  readonly components: number;
  /** Markers that begin a scan, and bytes that look like one. */
  readonly scans: number;
  /** Of Adobe's marker: 0 where components are stored as they are; undefined where there is no such marker. */
  readonly adobeTransform: number | undefined;
}

/** Markers between those of frames that are none: Huffman tables, an extension, arithmetic coding's tables. */
const NO_FRAMES = [0xc4, 0xc8, 0xcc];
const START_OF_SCAN = 0xda;
const ADOBE = 0xee;

const isFrame = (marker: number): boolean => marker >= 0xc0 && marker <= 0xcf && !NO_FRAMES.includes(marker);

/** Walks a JPEG's segments up to its first frame; undefined where there is none. */
export function jpegHeader(bytes: Uint8Array): JpegHeader | undefined {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  let adobeTransform: number | undefined;
  for (let at = 2; at + 9 < bytes.length && bytes[at] === 0xff;) {
    const marker = bytes[at + 1]!;
    if (marker === START_OF_SCAN) return undefined;
    if (isFrame(marker)) {
      const [precision, components] = [bytes[at + 4]!, bytes[at + 9]!];
      const [height, width] = [view.getUint16(at + 5), view.getUint16(at + 7)];
      return { precision, height, width, components, scans: scansIn(bytes), adobeTransform };
    }
    const length = view.getUint16(at + 2);
    if (marker === ADOBE && length === 14) adobeTransform = bytes[at + 15];
    // Fill bytes may stand before a marker.
    at += marker === 0xff ? 1 : 2 + length;
  }
  return undefined;
}

function scansIn(bytes: Uint8Array): number {
  let count = 0;
  for (let at = bytes.indexOf(START_OF_SCAN); at >= 0; at = bytes.indexOf(START_OF_SCAN, at + 1)) {
    if (bytes[at - 1] === 0xff) count++;
  }
  return count;
}
