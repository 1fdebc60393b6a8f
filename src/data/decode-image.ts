import { DataError } from "../base/errors";
import { oneLine } from "../io/json";
import { jpegHeader } from "./jpeg-header";

/** An image as files hold it: rows of pixels, `channels` bytes each. */
export interface RawImage {
  readonly width: number;
  readonly height: number;
  /** 1 for grey, 3 for red, green and blue. */
  readonly channels: 1 | 3;
  /** [height, width, channels]. */
  readonly data: Uint8Array;
}

/** Larger images are refused before any memory is taken for them: 64 megapixels. */
export const MOST_PIXELS = 64 * 2 ** 20;
/** PNG's colour type of palettes. */
const INDEXED = 3;
/** PNG's channels by colour type. */
const CHANNELS: Readonly<Record<number, number>> = { 0: 1, 2: 3, 3: 1, 4: 2, 6: 4 };
/** The most that deflate shrinks: 258 bytes to two bits. */
const MOST_DEFLATED = 1032;
/** JPEG: a bit for each block of 8 x 8 pixels, at least. */
const MOST_PIXELS_A_BYTE = 8 * 64;
/** A progressive JPEG has some ten; every one of them goes over the whole image. */
const MOST_SCANS = 256;
const PNG_SIGNATURE = [0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a];

/**
 * Decodes a PNG (any depth, grey, colour or palette; transparency is dropped) or a JPEG. The libraries are imported on first
 * use. Throws DataError naming `where` for anything else, a damaged file, or one of more than 64 megapixels.
 */
export async function decodeImage(bytes: Uint8Array, where: string): Promise<RawImage> {
  const isPng = PNG_SIGNATURE.every((byte, i) => bytes[i] === byte);
  const isJpeg = bytes[0] === 0xff && bytes[1] === 0xd8;
  if (!isPng && !isJpeg) throw new DataError(`${where} is neither a PNG nor a JPEG`, "convert it, or leave it out");
  try {
    return isPng ? await decodePng(bytes) : await decodeJpeg(bytes);
  } catch (cause) {
    throw new DataError(
      `${where} cannot be decoded: ${oneLine((cause as Error).message)}`,
      "fetch it again, or leave it out",
      {
        cause,
      },
    );
  }
}

async function decodePng(bytes: Uint8Array): Promise<RawImage> {
  const header = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  // The first chunk: length, "IHDR", width, height, bits, colour type, compression, filter, interlacing; its checksum.
  if (bytes.length < 33) throw new Error("its header is cut off");
  const [columns, rows] = [header.getUint32(16), header.getUint32(20)];
  checkSize(columns, rows);
  const rowBits = columns * (CHANNELS[header.getUint8(25)] ?? 1) * header.getUint8(24);
  checkHeld((rows * Math.ceil(rowBits / 8)) / MOST_DEFLATED, bytes, columns, rows);
  const isIndexed = header.getUint8(25) === INDEXED;
  // The library reads interlaced rows as if a pixel had whole bytes.
  if (header.getUint8(24) < 8 && header.getUint8(28) === 1) throw new Error("it is interlaced, of less than 8 bits");
  const { convertIndexedToRgb, decode, hasPngSignature } = await import("fast-png");
  if (!hasPngSignature(bytes)) throw new Error("it has no PNG signature");
  const png = decode(bytes, { checkCrc: true });
  const { width, height, depth } = png;
  if (isIndexed && !png.palette) throw new Error("its palette is missing");
  // Colours may come with a palette too, as a hint. Packed greys are unpacked as a palette of their levels.
  const palette = isIndexed ? png.palette : depth < 8 ? greyLevels(depth) : undefined;
  const data = palette ? convertIndexedToRgb({ ...png, palette: palette }) : png.data;
  const given = palette?.[0]?.length ?? png.channels;
  const shift = depth === 16 ? 8 : 0;
  // Two channels are grey with transparency, four colour with it.
  const channels = given < 3 ? 1 : 3;
  const pixels = new Uint8Array(width * height * channels);
  for (let i = 0; i < pixels.length; i++) {
    pixels[i] = data[Math.floor(i / channels) * given + (i % channels)]! >> shift;
  }
  return { width, height, channels, data: pixels };
}

/** The levels of grey of 1, 2 or 4 bits a pixel, from 0 to 255. */
const greyLevels = (depth: number): number[][] =>
  Array.from({ length: 2 ** depth }, (_, level) => [(level * 255) / (2 ** depth - 1)]);

async function decodeJpeg(bytes: Uint8Array): Promise<RawImage> {
  const header = jpegHeader(bytes);
  if (!header) throw new Error("it has no frame");
  checkSize(header.width, header.height);
  const pixels = header.width * header.height;
  checkHeld(pixels / MOST_PIXELS_A_BYTE, bytes, header.width, header.height);
  if (header.scans > MOST_SCANS) throw new Error(`it has ${header.scans} scans`);
  if (header.precision !== 8) throw new Error(`its values have ${header.precision} bits, not 8`);
  const isRgb = header.components === 3 && header.adobeTransform === 0;
  const { default: jpeg } = await import("jpeg-js");
  const { width, height, data } = jpeg.decode(bytes, {
    useTArray: true,
    formatAsRGBA: false,
    tolerantDecoding: false,
    // What the header says is all: a second frame, behind it, may ask for more.
    maxResolutionInMP: pixels / 1e6,
    maxMemoryUsageInMB: 16 + (64 * pixels) / 2 ** 20,
    // Without being told, the library takes RGB for YCbCr.
    ...(isRgb ? { colorTransform: false } : {}),
  });
  checkSize(width, height);
  return { width, height, channels: 3, data };
}

/** Before any memory is taken for the pixels: a file of `least` bytes could hold them. */
function checkHeld(least: number, bytes: Uint8Array, width: number, height: number): void {
  if (bytes.length >= least) return;
  throw new Error(`its ${bytes.length} bytes cannot hold ${width} x ${height} pixels`);
}

function checkSize(width: number, height: number): void {
  if (width > 0 && height > 0 && width * height <= MOST_PIXELS) return;
  throw new Error(`it has ${width} x ${height} pixels`);
}
