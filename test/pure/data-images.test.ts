import { mkdirSync, writeFileSync } from "node:fs";
import { crc32, deflateSync } from "node:zlib";
import { describe, expect, it } from "vitest";
import { classNames } from "../../src/cli/tasks/images";
import { DataError } from "../../src/base/errors";
import { decodeImage } from "../../src/data/decode-image";
import type { RawImage } from "../../src/data/decode-image";
import { readImageFolder } from "../../src/data/image-folder";
import { DEFAULT_PREPROCESSOR, fitImage, preparedImage, readPreprocessor } from "../../src/data/preprocessor";
import type { Preprocessor } from "../../src/data/preprocessor";
import { resizeImage } from "../../src/data/resize";
import type { Resample } from "../../src/data/resize";
import { memoryDirectory } from "../../src/io/directory";
import { failure } from "../support/failure";
import { useFolder } from "../support/folder";
import { readJson } from "../support/json";

interface Picture {
  readonly width: number;
  readonly height: number;
  readonly data: number[];
}

/** The same images as Pillow decodes and resizes them; test/image-data/make.py writes the file. */
const { source, resized, files } = readJson<{
  readonly source: Picture & { readonly luminance: number[] };
  readonly resized: readonly (Picture & { readonly filter: Resample })[];
  readonly files: Readonly<Record<string, Partial<Picture> & { readonly bytes: string; readonly channels: 1 | 3 }>>;
}>("test/image-data/pillow.json");
const SOURCE: RawImage = { ...source, channels: 3, data: Uint8Array.from(source.data) };

const fileBytes = (name: string): Uint8Array => Uint8Array.from(Buffer.from(files[name]?.bytes ?? "", "base64"));
const largestDifference = (a: ArrayLike<number>, b: readonly number[]): number =>
  a.length === b.length ? Math.max(...b.map((value, i) => Math.abs(value - a[i]!))) : Infinity;

const RGB_JPEG = [
  "/9j/7gAOQWRvYmUAZAAAAAAA/9sAQwACAQEBAQECAQEBAgICAgIEAwICAgIFBAQDBAYFBgYGBQYGBgcJCAYHCQcGBggLCAkKCgoKCgYICwwL",
  "CgwJCgoK/8AAEQgACAAQA1IRAEcRAEIRAP/EABUAAQEAAAAAAAAAAAAAAAAAAAkA/8QAGhAAAQUBAAAAAAAAAAAAAAAAAAgZRGaCo//aAAwD",
  "UgBHAEIAAD8ALVCUPIdrZNf5CQDQISh5Jsmv8iP/2Q==",
].join("");

/** A PNG with one IDAT chunk; every row begins with its filter byte. */
function pngOf(
  header: { width: number; height: number; bits: number; type: number; interlaced?: boolean },
  rows: number[],
  palette: number[] = [],
): Uint8Array {
  const chunk = (type: string, data: Uint8Array): Buffer => {
    const bytes = Buffer.alloc(12 + data.length);
    bytes.writeUInt32BE(data.length, 0);
    bytes.write(type, 4, "latin1");
    bytes.set(data, 8);
    bytes.writeUInt32BE(crc32(bytes.subarray(4, 8 + data.length)), 8 + data.length);
    return bytes;
  };
  const start = Buffer.alloc(13);
  start.writeUInt32BE(header.width, 0);
  start.writeUInt32BE(header.height, 4);
  start.set([header.bits, header.type, 0, 0, header.interlaced ? 1 : 0], 8);
  return new Uint8Array(
    Buffer.concat([
      ...[fileBytes("rgb").subarray(0, 8), chunk("IHDR", start)],
      ...(palette.length > 0 ? [chunk("PLTE", Uint8Array.from(palette))] : []),
      ...[chunk("IDAT", deflateSync(Uint8Array.from(rows))), chunk("IEND", new Uint8Array())],
    ]),
  );
}

/** Where the frame header of a JPEG begins. */
function frameOf(bytes: Uint8Array): number {
  return bytes.findIndex((byte, i) => byte === 0xff && bytes[i + 1] === 0xc0);
}

describe("decodeImage", () => {
  it.each(Object.entries(files).filter(([name]) => !name.includes("jpeg")))(
    "decodes a PNG, %s, as Pillow does",
    async (name, expected) => {
      const image = await decodeImage(fileBytes(name), name);
      const [width, height] = [expected.width ?? 13, expected.height ?? 9];
      expect([image.width, image.height, image.channels]).toEqual([width, height, expected.channels]);
      expect(largestDifference(image.data, expected.data ?? [])).toBe(0);
    },
  );

  // Decoders may round the inverse cosine transform and the colours differently, by a few levels.
  it.each(["jpeg", "progressive jpeg"])("decodes a %s nearly as Pillow does", async (name) => {
    const image = await decodeImage(fileBytes(name), name);
    expect([image.width, image.height, image.channels]).toEqual([24, 16, 3]);
    expect(largestDifference(image.data, files[name]?.data ?? [])).toBeLessThanOrEqual(4);
  });

  it("ignores the palette that a PNG of colours suggests", async () => {
    const colours = [10, 20, 30, 40, 50, 60];
    const suggested = Array.from({ length: 768 }, (_, i) => 255 - (i % 256));
    const png = pngOf({ width: 2, height: 1, bits: 8, type: 2 }, [0, ...colours], suggested);
    expect([...(await decodeImage(png, "x.png")).data]).toEqual(colours);
  });

  // Made by Pillow 12.3.0: (x, y) -> (13 x, 17 y, 200), 16 x 8, quality 95, keep_rgb.
  it("decodes a JPEG that stores RGB without conversion", async () => {
    const image = await decodeImage(Uint8Array.from(Buffer.from(RGB_JPEG, "base64")), "x.jpg");
    const expected = Array.from({ length: 16 * 8 * 3 }, (_, i) => {
      const [x, y] = [Math.floor(i / 3) % 16, Math.floor(i / 48)];
      return [13 * x, 17 * y, 200][i % 3]!;
    });
    expect(largestDifference(image.data, expected)).toBeLessThanOrEqual(4);
  });

  const deep = fileBytes("jpeg");
  deep[frameOf(deep) + 4] = 12;
  const wide = fileBytes("jpeg");
  wide.set([0xff, 0xff, 0xff, 0xff], frameOf(wide) + 5);
  const damaged = pngOf({ width: 2, height: 1, bits: 8, type: 3 }, [0, 0, 1], [1, 2, 3, 4, 5, 6]);
  damaged[41] = 200;
  it.each([
    ["12 bits", deep, /its values have 12 bits/],
    ["4 gigapixels by its header", wide, /it has 65535 x 65535 pixels/],
    ["no frame", Uint8Array.of(0xff, 0xd8, 0xff, 0xd9), /it has no frame/],
    ["a byte that its checksum does not allow", damaged, /CRC mismatch for chunk PLTE/],
    ["indices without a palette", pngOf({ width: 2, height: 1, bits: 8, type: 3 }, [0, 0, 1]), /palette is missing/],
    [
      "interlaced single bits",
      pngOf({ width: 1, height: 1, bits: 1, type: 0, interlaced: true }, [0, 0x80]),
      /interlaced and has less than 8 bits/,
    ],
  ])("refuses a file of %s", async (_name, bytes, message) => {
    await expect(decodeImage(bytes, "x")).rejects.toThrow(message);
  });

  it.each(["rgb", "jpeg", "progressive jpeg"])("refuses every truncation of the file %s", async (name) => {
    const bytes = fileBytes(name);
    for (let length = 0; length < bytes.length; length++) {
      await failure(decodeImage(bytes.slice(0, length), "x"), DataError);
    }
  });

  const huge = fileBytes("rgb");
  new DataView(huge.buffer).setUint32(16, 1_000_000);
  it.each([
    ["text", new TextEncoder().encode("no image"), /neither a PNG nor a JPEG/],
    ["nothing", new Uint8Array(), /neither a PNG nor a JPEG/],
    ["a cut PNG", fileBytes("rgb").subarray(0, 60), /x\.png cannot be decoded/],
    ["a PNG's signature alone", fileBytes("rgb").subarray(0, 8), /cannot be decoded: its header is cut off/],
    ["a cut JPEG", fileBytes("jpeg").subarray(0, 200), /cannot be decoded/],
    ["a PNG of a terapixel", huge, /it has 1000000 x 9 pixels|cannot be decoded/],
  ])("refuses %s", async (_name, bytes, message) => {
    await expect(decodeImage(bytes, "x.png")).rejects.toThrow(message);
  });
});

describe("resizeImage", () => {
  it.each(resized)("gives the bytes of Pillow: $filter, $width x $height", ({ filter, width, height, data }) => {
    expect(largestDifference(resizeImage(SOURCE, width, height, filter).data, data)).toBe(0);
  });

  // CRC-32 of Pillow 12.3.0's bytes for the same pattern.
  it.each<[Resample, number, number, number, number, number]>([
    ["bilinear", 300, 200, 224, 224, 3710275407],
    ["bicubic", 300, 200, 224, 224, 253226916],
    ["lanczos", 300, 200, 224, 224, 451846499],
    ["bilinear", 32, 32, 224, 224, 1654337583],
    ["bicubic", 32, 32, 224, 224, 2627086908],
    ["bilinear", 301, 1, 17, 5, 475558344],
    ["bicubic", 13, 9, 13, 30, 2293472615],
  ])("gives the bytes of Pillow: %s from %i x %i to %i x %i", (filter, width, height, toWidth, toHeight, checksum) => {
    const pattern = Uint8Array.from({ length: width * height * 3 }, (_, i) => {
      const [x, y] = [Math.floor(i / 3) % width, Math.floor(i / 3 / width)];
      return (x * 37 + y * 59 + (i % 3) * 83 + x * y * 7) % 256;
    });
    const image = resizeImage({ width, height, channels: 3, data: pattern }, toWidth, toHeight, filter);
    expect(crc32(image.data)).toBe(checksum);
  });
});

describe("preparing an image", () => {
  const fit = (settings: Partial<Preprocessor>, size: number, channels: number): Uint8Array =>
    fitImage(SOURCE, { ...DEFAULT_PREPROCESSOR, ...settings }, { size, channels });

  it("gives planes of the size of the model, and grey as Pillow does", () => {
    const square = resizeImage(SOURCE, 8, 8, "bilinear");
    const planes = fit({}, 8, 3);
    expect(planes[64 + 9]).toBe(square.data[9 * 3 + 1]);
    const grey = { width: 13, height: 9, channels: 1 as const, data: Uint8Array.from(source.luminance) };
    expect(largestDifference(fit({}, 8, 1), [...resizeImage(grey, 8, 8, "bilinear").data])).toBe(0);
  });

  it("resizes the shorter edge and crops the centre if configured", () => {
    const settings = { size: { shortest_edge: 6 }, do_center_crop: true, crop_size: 4 };
    const small = resizeImage(SOURCE, 8, 6, "bilinear");
    // Rows 1 to 4 and columns 2 to 5 of 8 x 6.
    expect(fit(settings, 4, 3)[0]).toBe(small.data[(1 * 8 + 2) * 3]);
  });

  it("gives the shorter edge exactly the configured length, for images of every size", () => {
    for (let side = 1; side <= 300; side++) {
      const image = { width: side, height: side, channels: 3 as const, data: new Uint8Array(side * side * 3) };
      const settings = { ...DEFAULT_PREPROCESSOR, size: { shortest_edge: 7 }, do_center_crop: true, crop_size: 7 };
      expect(fitImage(image, settings, { size: 7, channels: 3 })).toHaveLength(147);
    }
  });

  it("normalises by channel, by one value for all channels, or not at all", () => {
    const settings = { ...DEFAULT_PREPROCESSOR, image_mean: [0, 0.5, 1], image_std: [1, 0.25, 2] };
    const image = { width: 1, height: 1, channels: 3 as const, data: Uint8Array.of(255, 51, 0) };
    const pixels = (preprocessor: Preprocessor) => [
      ...preparedImage(image, 0, preprocessor, { size: 1, channels: 3 }).pixels,
    ];
    pixels(settings).forEach((value, i) => expect(value).toBeCloseTo([1, -1.2, -0.5][i] ?? NaN, 6));
    const shared = pixels({ ...settings, image_mean: [0.2], image_std: [2] });
    shared.forEach((value, i) => expect(value).toBeCloseTo([0.4, 0, -0.1][i] ?? NaN, 6));
    expect(pixels({ ...settings, do_normalize: false, do_rescale: false })).toEqual([255, 51, 0]);
  });

  it("is refused where the configuration belongs to another model", () => {
    expect(() => fit({ size: 8 }, 9, 3)).toThrow(/makes an image 8 x 8; the model takes 9 x 9/);
    expect(() => fit({ size: 8, do_center_crop: true, crop_size: 9 }, 9, 3)).toThrow(/cropped to 9 x 9/);
  });
});

describe("preprocessor_config.json", () => {
  const read = (text: string) =>
    readPreprocessor(memoryDirectory("model", { "preprocessor_config.json": new TextEncoder().encode(text) }));

  it("is read as published, and has defaults where it is missing", async () => {
    const preprocessor = await read(
      '{"size": {"height": 8, "width": 8}, "resample": 3, "image_mean": [0.1, 0.2, 0.3], "more": 1}',
    );
    expect(preprocessor).toMatchObject({ size: { height: 8, width: 8 }, resample: 3, image_mean: [0.1, 0.2, 0.3] });
    expect(await readPreprocessor(memoryDirectory("model"))).toEqual(DEFAULT_PREPROCESSOR);
  });

  it.each([
    ['{"size": -3}', /size/],
    ['{"resample": 9}', /resample/],
    ['{"image_mean": [0.5, 0.5]}', /image_mean: expected a number, or a list of 1 or 3/],
    ['{"image_std": [0.5, 0, 0.5]}', /image_std: .*deviations must be above 0/],
    ["[1]", /preprocessor_config.json in model/],
    ["{", /preprocessor_config.json in model/],
  ])("refuses %s", async (text, message) => {
    await expect(read(text)).rejects.toThrow(message);
  });
});

describe("image folders", () => {
  const path = useFolder();
  const spec = { size: 4, patch: 2, channels: 3 };
  const options = { spec, preprocessor: DEFAULT_PREPROCESSOR };
  const png = fileBytes("rgb");

  it("are labelled by the order of their classes, without other files", async () => {
    const cats = memoryDirectory("cats", { "b.png": png, "a.JPG": fileBytes("jpeg"), "notes.txt": png });
    const dogs = memoryDirectory("dogs", { "c.jpeg": fileBytes("progressive jpeg") });
    const samples = await readImageFolder([cats, dogs], options);
    expect(samples.map(({ label }) => label)).toEqual([0, 0, 1]);
    expect(samples.every(({ pixels }) => pixels.length === 48)).toBe(true);
  });

  it("are refused without classes, with an empty class, and with a file that is not an image", async () => {
    await expect(readImageFolder([], options)).rejects.toThrow(/no class folders/);
    await expect(readImageFolder([memoryDirectory("cats")], options)).rejects.toThrow(/cats has no PNG or JPEG/);
    const broken = memoryDirectory("cats", { "a.png": png.subarray(0, 50) });
    await expect(readImageFolder([broken], options)).rejects.toThrow(/a\.png in cats cannot be decoded/);
  });

  it("are named by the sorted folders of train/", async () => {
    await expect(classNames(path())).rejects.toThrow(/no class folders/);
    for (const name of ["dogs", "cats"]) mkdirSync(path("train", name), { recursive: true });
    writeFileSync(path("train", "readme.txt"), "");
    await expect(classNames(path())).rejects.toThrow(/cats has no PNG or JPEG/);
    for (const name of ["dogs", "cats"]) writeFileSync(path("train", name, "a.png"), png);
    expect(await classNames(path())).toEqual(["cats", "dogs"]);
  });
});
