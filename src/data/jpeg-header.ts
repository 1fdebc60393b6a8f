/** Facts about a JPEG from its headers. */
export interface JpegHeader {
  /** Width and height in pixels. */
  readonly width: number;
  readonly height: number;
  /** Bits of a value. */
  readonly precision: number;
  readonly components: number;
  /** Upper bound for the number of scans: other bytes may look like the marker of a scan. */
  readonly scans: number;
  /** Colour transform of Adobe's marker; 0 means that there is none. Undefined without this marker. */
  readonly adobeTransform: number | undefined;
}

/** Markers in the range of frames that mean something else: Huffman tables, an extension, arithmetic coding. */
const NO_FRAMES = [0xc4, 0xc8, 0xcc];
const START_OF_SCAN = 0xda;
const ADOBE = 0xee;

const isFrame = (marker: number): boolean => marker >= 0xc0 && marker <= 0xcf && !NO_FRAMES.includes(marker);

/** Reads the segments of a JPEG up to its first frame; undefined if there is no frame. */
export function jpegHeader(bytes: Uint8Array): JpegHeader | undefined {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  let adobeTransform: number | undefined;
  for (let offset = 2; offset + 9 < bytes.length && bytes[offset] === 0xff;) {
    const marker = bytes[offset + 1]!;
    if (marker === START_OF_SCAN) return undefined;
    if (isFrame(marker)) {
      const [precision, components] = [bytes[offset + 4]!, bytes[offset + 9]!];
      const [height, width] = [view.getUint16(offset + 5), view.getUint16(offset + 7)];
      return { precision, height, width, components, scans: countScans(bytes), adobeTransform };
    }
    const length = view.getUint16(offset + 2);
    if (marker === ADOBE && length === 14) adobeTransform = bytes[offset + 15];
    // There may be fill bytes before a marker.
    offset += marker === 0xff ? 1 : 2 + length;
  }
  return undefined;
}

function countScans(bytes: Uint8Array): number {
  let count = 0;
  for (let i = bytes.indexOf(START_OF_SCAN); i >= 0; i = bytes.indexOf(START_OF_SCAN, i + 1)) {
    if (bytes[i - 1] === 0xff) count++;
  }
  return count;
}
