import { DataError } from "../base/errors";
import { oneLine } from "../io/json";
import { jpegHeader } from "./jpeg-header";

/** An image in bytes, as it is stored in files. */
export interface RawImage {
  readonly width: number;
  readonly height: number;
  /** 1: grey; 3: red, green and blue. */
  readonly channels: 1 | 3;
  /** [height, width, channels]. */
  readonly data: Uint8Array;
}

/** Maximum number of pixels, 64 Mi. Larger images are refused before memory is allocated for them. */
export const MAX_PIXELS = 64 * 2 ** 20;
/** PNG's colour type for images with a palette. */
const INDEXED = 3;
/** Channels of each PNG colour type. */
const CHANNELS: Readonly<Record<number, number>> = { 0: 1, 2: 3, 3: 1, 4: 2, 6: 4 };
/** Maximum ratio of deflate: 258 bytes in two bits. */
const MAX_DEFLATE_RATIO = 1032;
/** Maximum pixels for each byte of a JPEG, which has at least one bit for each block of 8 x 8 pixels. */
const MAX_JPEG_PIXELS_PER_BYTE = 8 * 64;
/** Maximum scans of a JPEG. A progressive one has about ten, and decoding a scan passes over the complete image. */
const MAX_SCANS = 256;
const PNG_SIGNATURE = [0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a];

/**
 * Decodes a JPEG or a PNG (of any depth; grey, colour or palette; transparency is dropped). The libraries are imported on
 * first use.
 * @param where name of the file in errors.
 * @throws DataError for any other file, for a damaged one, and for an image of more than 64 Mi pixels.
 */
export async function decodeImage(bytes: Uint8Array, where: string): Promise<RawImage> {
  const isPng = PNG_SIGNATURE.every((byte, i) => bytes[i] === byte);
  const isJpeg = bytes[0] === 0xff && bytes[1] === 0xd8;
  if (!isPng && !isJpeg) throw new DataError(`${where} is neither a PNG nor a JPEG`, "convert it, or leave it out");
  try {
    return isPng ? await decodePng(bytes) : await decodeJpeg(bytes);
  } catch (cause) {
    // Both libraries throw Errors; a catch clause cannot say so.
    const fact = `${where} cannot be decoded: ${oneLine((cause as Error).message)}`;
    throw new DataError(fact, "fetch it again, or leave it out", { cause });
  }
}

async function decodePng(bytes: Uint8Array): Promise<RawImage> {
  const header = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  // After the signature comes the first chunk: length, "IHDR", width, height, bits, colour type, compression, filter,
  // interlacing, checksum.
  if (bytes.length < 33) throw new Error("its header is cut off");
  const [columns, rows] = [header.getUint32(16), header.getUint32(20)];
  checkSize(columns, rows);
  const rowBits = columns * (CHANNELS[header.getUint8(25)] ?? 1) * header.getUint8(24);
  checkContent((rows * Math.ceil(rowBits / 8)) / MAX_DEFLATE_RATIO, bytes, columns, rows);
  const isIndexed = header.getUint8(25) === INDEXED;
  // The library misreads interlaced pixels of less than a byte.
  if (header.getUint8(24) < 8 && header.getUint8(28) === 1)
    throw new Error("it is interlaced and has less than 8 bits");
  const { convertIndexedToRgb, decode, hasPngSignature } = await import("fast-png");
  if (!hasPngSignature(bytes)) throw new Error("it has no PNG signature");
  const png = decode(bytes, { checkCrc: true });
  const { width, height, depth } = png;
  if (isIndexed && !png.palette) throw new Error("its palette is missing");
  // Images of other colour types may have a palette as a hint. Greys of less than a byte are unpacked by a palette, too.
  const palette = isIndexed ? png.palette : depth < 8 ? greyLevels(depth) : undefined;
  const data = palette ? convertIndexedToRgb({ ...png, palette }) : png.data;
  const sourceChannels = palette?.[0]?.length ?? png.channels;
  const shift = depth === 16 ? 8 : 0;
  // Two channels are grey and transparency; four are colour and transparency.
  const channels = sourceChannels < 3 ? 1 : 3;
  const pixels = new Uint8Array(width * height * channels);
  for (let i = 0; i < pixels.length; i++) {
    pixels[i] = data[Math.floor(i / channels) * sourceChannels + (i % channels)]! >> shift;
  }
  return { width, height, channels, data: pixels };
}

/** The palette of grey levels, from 0 to 255, for pixels of 1, 2 or 4 bits. */
const greyLevels = (depth: number): number[][] =>
  Array.from({ length: 2 ** depth }, (_, level) => [(level * 255) / (2 ** depth - 1)]);

async function decodeJpeg(bytes: Uint8Array): Promise<RawImage> {
  const header = jpegHeader(bytes);
  if (!header) throw new Error("it has no frame");
  checkSize(header.width, header.height);
  const pixels = header.width * header.height;
  checkContent(pixels / MAX_JPEG_PIXELS_PER_BYTE, bytes, header.width, header.height);
  if (header.scans > MAX_SCANS) throw new Error(`it has ${header.scans} scans`);
  if (header.precision !== 8) throw new Error(`its values have ${header.precision} bits, not 8`);
  const isRgb = header.components === 3 && header.adobeTransform === 0;
  const { default: jpeg } = await import("jpeg-js");
  const { width, height, data } = jpeg.decode(bytes, {
    useTArray: true,
    formatAsRGBA: false,
    tolerantDecoding: false,
    // Limits the decoder to the size in the header, since a second frame could be larger.
    maxResolutionInMP: pixels / 1e6,
    maxMemoryUsageInMB: 16 + (64 * pixels) / 2 ** 20,
    // By default, the library assumes YCbCr.
    ...(isRgb ? { colorTransform: false } : {}),
  });
  checkSize(width, height);
  return { width, height, channels: 3, data };
}

/** Throws if a file is too small to contain the pixels of its header, before memory is allocated for them. */
function checkContent(minimumBytes: number, bytes: Uint8Array, width: number, height: number): void {
  if (bytes.length >= minimumBytes) return;
  throw new Error(`its ${bytes.length} bytes cannot hold ${width} x ${height} pixels`);
}

function checkSize(width: number, height: number): void {
  if (width > 0 && height > 0 && width * height <= MAX_PIXELS) return;
  throw new Error(`it has ${width} x ${height} pixels`);
}
