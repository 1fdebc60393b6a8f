import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { classNames } from "../../src/cli/image-data";
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
  a.length === b.length ? Math.max(...b.map((value, i) => Math.abs(value - (a[i] as number)))) : Infinity;

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
      // Pillow's weights are whole numbers: a value half way between two levels may round the other way.
      expect(worst(found.data, one.data)).toBeLessThanOrEqual(one.filter === "nearest" ? 0 : 1);
    },
  );
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

  it("normalises by channel, or not at all", () => {
    const told = { ...DEFAULT_PREPROCESSOR, image_mean: [0, 0.5, 1], image_std: [1, 0.25, 2] };
    const image = { width: 1, height: 1, channels: 3 as const, data: Uint8Array.of(255, 51, 0) };
    const pixels = (own: Preprocessor) => [...preparedImage(image, 0, own, { size: 1, channels: 3 }).pixels];
    pixels(told).forEach((value, i) => expect(value).toBeCloseTo([1, -1.2, -0.5][i] ?? NaN, 6));
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
