import { readCifar } from "../../src/data/cifar";
import { readIdx } from "../../src/data/idx";
import { readImageFolder } from "../../src/data/image-folder";
import type { ImageSample } from "../../src/data/images";
import { DEFAULT_PREPROCESSOR, readPreprocessor } from "../../src/data/preprocessor";
import { JSON_WORDS, must, testFile } from "./reader";
import type { Reader } from "./reader";

const SPEC = { size: 4, channels: 3, patch: 2 };
/** Memory per byte of a PNG: deflate shrinks by 1032 at most, a byte holds up to 8 pixels, and each takes up to 8 bytes. */
const DEFLATED = 1032 * 8 * 8;

function checkImages(samples: readonly ImageSample[], classes: number): void {
  for (const { pixels, label } of samples) {
    must(pixels.length % 3 === 0 && pixels.length > 0, "pixels of three channels");
    must(pixels.every(Number.isFinite), "a pixel that is not a number");
    must(label >= 0 && label < classes, "a label");
  }
}

const cifar: Reader = {
  name: "CIFAR",
  seeds: "cifar",
  file: "batch.bin",
  form: "bytes",
  words: ["\u0000", "\u0007"],
  perByte: 256,
  async read(directory) {
    const classes = ((await directory.size("batch.bin")) ?? 0) % 3074 === 0 ? 100 : 10;
    checkImages(await readCifar(directory, "batch.bin", classes), classes);
  },
};

const idx: Reader = {
  name: "IDX",
  seeds: "idx",
  file: "images",
  form: "bytes",
  words: ["\u0000\u0000\u0008\u0003", "\u0000\u0000\u0000\u0002", "\u001f\u008b", "\u0000"],
  // Two images of what a byte of gzip can expand to, which are resized.
  perByte: 1032 * 16,
  otherFiles: { labels: Uint8Array.of(0, 0, 8, 1, 0, 0, 0, 2, 9, 0) },
  async read(directory) {
    const samples = await readIdx(directory, "images", "labels", { classes: 10, spec: SPEC });
    must(samples.length === 2, "an image for each label");
    checkImages(samples, 10);
  },
};

const folder = (name: string, file: string, form: "png" | "bytes", words: readonly string[]): Reader => ({
  name,
  seeds: name.toLowerCase(),
  file,
  form,
  words,
  perByte: DEFLATED,
  async read(directory) {
    const preprocessor = { ...DEFAULT_PREPROCESSOR, size: 4 };
    checkImages(await readImageFolder([directory], { spec: SPEC, preprocessor }), 1);
  },
});

const IMAGE = testFile("hostile/seeds/png/rgb");

const preprocessor: Reader = {
  name: "preprocessor_config.json",
  seeds: "preprocessor",
  file: "preprocessor_config.json",
  form: "json",
  words: [...JSON_WORDS, "shortest_edge", "do_center_crop", "16384"],
  perByte: 1024,
  otherFiles: { "a.png": IMAGE },
  async read(directory) {
    const options = { spec: SPEC, preprocessor: await readPreprocessor(directory) };
    const samples = await readImageFolder([directory], options);
    for (const { pixels } of samples) must(pixels.length === 48, "an image's size");
  },
};

export const IMAGE_READERS: readonly Reader[] = [
  cifar,
  idx,
  folder("PNG", "a.png", "png", ["IHDR", "IDAT", "IEND", "PLTE", "tRNS", "iCCP", "acTL"]),
  folder("JPEG", "a.jpg", "bytes", ["\u00ff\u00d8", "\u00ff", "\u0000\u0000", "JFIF", "Adobe"]),
  preprocessor,
];
