import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
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

interface Picture {
  readonly width: number;
  readonly height: number;
  readonly data: number[];
}

/** What Pillow makes of the same images; made by test/image-data/make.py. */
const { source, resized, files } = JSON.parse(readFileSync("test/image-data/pillow.json", "utf8")) as {
  readonly source: Picture & { readonly luminance: number[] };
  readonly resized: readonly (Picture & { readonly filter: Resample })[];
  readonly files: Readonly<Record<string, Partial<Picture> & { readonly bytes: string; readonly channels: 1 | 3 }>>;
};
const SOURCE: RawImage = { ...source, channels: 3, data: Uint8Array.from(source.data) };

const fileBytes = (name: string): Uint8Array => Uint8Array.from(Buffer.from(files[name]?.bytes ?? "", "base64"));
const worst = (a: ArrayLike<number>, b: readonly number[]): number =>
  a.length === b.length ? Math.max(...b.map((value, i) => Math.abs(value - a[i]!))) : Infinity;

const RGB_JPEG = [
  "/9j/7gAOQWRvYmUAZAAAAAAA/9sAQwACAQEBAQECAQEBAgICAgIEAwICAgIFBAQDBAYFBgYGBQYGBgcJCAYHCQcGBggLCAkKCgoKCgYICwwL",
  "CgwJCgoK/8AAEQgACAAQA1IRAEcRAEIRAP/EABUAAQEAAAAAAAAAAAAAAAAAAAkA/8QAGhAAAQUBAAAAAAAAAAAAAAAAAAgZRGaCo//aAAwD",
  "UgBHAEIAAD8ALVCUPIdrZNf5CQDQISh5Jsmv8iP/2Q==",
].join("");

/** A PNG of one IDAT; `rows` with their filter bytes. */
function pngOf(
  header: { width: number; height: number; bits: number; type: number; interlaced?: boolean },
  rows: number[],
  palette: number[] = [],
): Uint8Array {
  const chunk = (type: string, data: Uint8Array): Buffer => {
    const whole = Buffer.alloc(12 + data.length);
    whole.writeUInt32BE(data.length, 0);
    whole.write(type, 4, "latin1");
    whole.set(data, 8);
    whole.writeUInt32BE(crc32(whole.subarray(4, 8 + data.length)), 8 + data.length);
    return whole;
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

/** A JPEG's frame header, in place. */
function frameOf(bytes: Uint8Array): number {
  return bytes.findIndex((byte, i) => byte === 0xff && bytes[i + 1] === 0xc0);
}

describe("decoding", () => {
  it.each(Object.entries(files).filter(([name]) => !name.includes("jpeg")))(
    "a PNG, %s, as Pillow does",
    async (name, wanted) => {
      const found = await decodeImage(fileBytes(name), name);
      expect([found.width, found.height, found.channels]).toEqual([
        wanted.width ?? 13,
        wanted.height ?? 9,
        wanted.channels,
      ]);
      expect(worst(found.data, wanted.data ?? [])).toBe(0);
    },
  );

  // Decoders may round the inverse cosine transform and the colours differently, by a few levels.
  it.each(["jpeg", "progressive jpeg"])("a %s, nearly as Pillow does", async (name) => {
    const found = await decodeImage(fileBytes(name), name);
    expect([found.width, found.height, found.channels]).toEqual([24, 16, 3]);
    expect(worst(found.data, files[name]?.data ?? [])).toBeLessThanOrEqual(4);
  });

  it("colours, whatever palette a PNG suggests beside them", async () => {
    const colours = [10, 20, 30, 40, 50, 60];
    const suggested = Array.from({ length: 768 }, (_, i) => 255 - (i % 256));
    const png = pngOf({ width: 2, height: 1, bits: 8, type: 2 }, [0, ...colours], suggested);
    expect([...(await decodeImage(png, "x.png")).data]).toEqual(colours);
  });

  // Made by Pillow 12.3.0: (x, y) -> (13 x, 17 y, 200), 16 x 8, quality 95, keep_rgb.
  it("a JPEG that stores RGB as it is", async () => {
    const found = await decodeImage(Uint8Array.from(Buffer.from(RGB_JPEG, "base64")), "x.jpg");
    const wanted = Array.from({ length: 16 * 8 * 3 }, (_, i) => {
      const [x, y] = [Math.floor(i / 3) % 16, Math.floor(i / 48)];
      return [13 * x, 17 * y, 200][i % 3]!;
    });
    expect(worst(found.data, wanted)).toBeLessThanOrEqual(4);
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
      /interlaced, of less than 8 bits/,
    ],
  ])("refuses a file of %s", async (_name, bytes, message) => {
    await expect(decodeImage(bytes, "x")).rejects.toThrow(message);
  });

  it.each(["rgb", "jpeg", "progressive jpeg"])("refuses every truncation of the file %s", async (name) => {
    const bytes = fileBytes(name);
    const passed: number[] = [];
    for (let length = 0; length < bytes.length; length++) {
      const outcome = await decodeImage(bytes.slice(0, length), "x").then(
        () => true,
        (error: unknown) => !(error instanceof DataError),
      );
      if (outcome) passed.push(length);
    }
    expect(passed).toEqual([]);
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

describe("resizing", () => {
  it.each(resized.map((one) => [`${one.filter}, ${one.width} x ${one.height}`, one] as const))(
    "%s, as Pillow does",
    (_, one) => {
      const found = resizeImage(SOURCE, one.width, one.height, one.filter);
      expect(worst(found.data, one.data)).toBe(0);
    },
  );

  // CRC-32 of Pillow 12.3.0's bytes for the same pattern.
  it.each<[Resample, number, number, number, number, number]>([
    ["bilinear", 300, 200, 224, 224, 3710275407],
    ["bicubic", 300, 200, 224, 224, 253226916],
    ["lanczos", 300, 200, 224, 224, 451846499],
    ["bilinear", 32, 32, 224, 224, 1654337583],
    ["bicubic", 32, 32, 224, 224, 2627086908],
    ["bilinear", 301, 1, 17, 5, 475558344],
    ["bicubic", 13, 9, 13, 30, 2293472615],
  ])("%s of %i x %i to %i x %i has Pillow's very bytes", (filter, width, height, toWidth, toHeight, checksum) => {
    const pattern = Uint8Array.from({ length: width * height * 3 }, (_, i) => {
      const [x, y] = [Math.floor(i / 3) % width, Math.floor(i / 3 / width)];
      return (x * 37 + y * 59 + (i % 3) * 83 + x * y * 7) % 256;
    });
    const found = resizeImage({ width, height, channels: 3, data: pattern }, toWidth, toHeight, filter);
    expect(crc32(found.data)).toBe(checksum);
  });
});

describe("preparing", () => {
  const fit = (told: Partial<Preprocessor>, size: number, channels: number): Uint8Array =>
    fitImage(SOURCE, { ...DEFAULT_PREPROCESSOR, ...told }, { size, channels });

  it("makes planes of the model's size, and grey as Pillow does", () => {
    const square = resizeImage(SOURCE, 8, 8, "bilinear");
    const planes = fit({}, 8, 3);
    expect(planes[64 + 9]).toBe(square.data[9 * 3 + 1]);
    const grey = { width: 13, height: 9, channels: 1 as const, data: Uint8Array.from(source.luminance) };
    expect(worst(fit({}, 8, 1), [...resizeImage(grey, 8, 8, "bilinear").data])).toBe(0);
  });

  it("resizes the shorter edge and crops the centre where that is asked for", () => {
    const told = { size: { shortest_edge: 6 }, do_center_crop: true, crop_size: 4 };
    const small = resizeImage(SOURCE, 8, 6, "bilinear");
    // Rows 1 to 4 and columns 2 to 5 of 8 x 6.
    expect(fit(told, 4, 3)[0]).toBe(small.data[(1 * 8 + 2) * 3]);
  });

  it("makes the shorter edge exactly as long as asked, for every size", () => {
    for (let side = 1; side <= 300; side++) {
      const image = { width: side, height: side, channels: 3 as const, data: new Uint8Array(side * side * 3) };
      const told = { ...DEFAULT_PREPROCESSOR, size: { shortest_edge: 7 }, do_center_crop: true, crop_size: 7 };
      expect(fitImage(image, told, { size: 7, channels: 3 })).toHaveLength(147);
    }
  });

  it("normalises by channel, or not at all", () => {
    const told = { ...DEFAULT_PREPROCESSOR, image_mean: [0, 0.5, 1], image_std: [1, 0.25, 2] };
    const image = { width: 1, height: 1, channels: 3 as const, data: Uint8Array.of(255, 51, 0) };
    const pixels = (own: Preprocessor) => [...preparedImage(image, 0, own, { size: 1, channels: 3 }).pixels];
    pixels(told).forEach((value, i) => expect(value).toBeCloseTo([1, -1.2, -0.5][i] ?? NaN, 6));
    const one = pixels({ ...told, image_mean: [0.2], image_std: [2] });
    one.forEach((value, i) => expect(value).toBeCloseTo([0.4, 0, -0.1][i] ?? NaN, 6));
    expect(pixels({ ...told, do_normalize: false, do_rescale: false })).toEqual([255, 51, 0]);
  });

  it("says when the configuration belongs to another model", () => {
    expect(() => fit({ size: 8 }, 9, 3)).toThrow(/makes an image 8 x 8; the model takes 9 x 9/);
    expect(() => fit({ size: 8, do_center_crop: true, crop_size: 9 }, 9, 3)).toThrow(/cropped to 9 x 9/);
  });
});

describe("preprocessor_config.json", () => {
  const read = (text: string) =>
    readPreprocessor(memoryDirectory("model", { "preprocessor_config.json": new TextEncoder().encode(text) }));

  it("is read as published, and may be missing", async () => {
    const found = await read(
      '{"size": {"height": 8, "width": 8}, "resample": 3, "image_mean": [0.1, 0.2, 0.3], "more": 1}',
    );
    expect(found).toMatchObject({ size: { height: 8, width: 8 }, resample: 3, image_mean: [0.1, 0.2, 0.3] });
    expect(await readPreprocessor(memoryDirectory("model"))).toEqual(DEFAULT_PREPROCESSOR);
  });

  it.each([
    ['{"size": -3}', /size/],
    ['{"resample": 9}', /resample/],
    ['{"image_mean": [0.5, 0.5]}', /image_mean: expected a number, or a list of 1 or 3/],
    ['{"image_std": [0.5, 0, 0.5]}', /image_std: .*deviations above 0/],
    ["[1]", /preprocessor_config.json in model/],
    ["{", /preprocessor_config.json in model/],
  ])("refuses %s", async (text, message) => {
    await expect(read(text)).rejects.toThrow(message);
  });
});

describe("image folders", () => {
  const spec = { size: 4, patch: 2, channels: 3 };
  const options = { spec, preprocessor: DEFAULT_PREPROCESSOR };
  const png = fileBytes("rgb");

  it("are labelled by the order of their classes; other files are passed over", async () => {
    const cats = memoryDirectory("cats", { "b.png": png, "a.JPG": fileBytes("jpeg"), "notes.txt": png });
    const dogs = memoryDirectory("dogs", { "c.jpeg": fileBytes("progressive jpeg") });
    const samples = await readImageFolder([cats, dogs], options);
    expect(samples.map(({ label }) => label)).toEqual([0, 0, 1]);
    expect(samples.every(({ pixels }) => pixels.length === 48)).toBe(true);
  });

  it("refuses no classes, an empty class, and names a file that is no image", async () => {
    await expect(readImageFolder([], options)).rejects.toThrow(/no class folders/);
    await expect(readImageFolder([memoryDirectory("cats")], options)).rejects.toThrow(/cats has no PNG or JPEG/);
    const broken = memoryDirectory("cats", { "a.png": png.subarray(0, 50) });
    await expect(readImageFolder([broken], options)).rejects.toThrow(/a\.png in cats cannot be decoded/);
  });

  it("are the sorted folders of train", async () => {
    const folder = mkdtempSync(join(tmpdir(), "safetape-images-"));
    try {
      await expect(classNames(folder)).rejects.toThrow(/no class folders/);
      for (const name of ["dogs", "cats"]) mkdirSync(join(folder, "train", name), { recursive: true });
      writeFileSync(join(folder, "train", "readme.txt"), "");
      expect(await classNames(folder)).toEqual(["cats", "dogs"]);
    } finally {
      rmSync(folder, { recursive: true });
    }
  });
});
