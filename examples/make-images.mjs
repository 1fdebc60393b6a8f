// Writes the demo's images: of each of the classes 5 to 9 of Fashion-MNIST the first 400 for training and 120 for evaluation, in the
// layout of the published files.
//
//   node examples/make-images.mjs [OUT]      needs Debian's dataset-fashion-mnist, or its folder in FASHION_MNIST
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";
import { readData } from "./bases/data.mjs";

const CLASSES = [5, 6, 7, 8, 9];
const PARTS = { train: 400, t10k: 120 };
const SIDE = 28;

const out = process.argv[2] ?? fileURLToPath(new URL("data/fashion", import.meta.url));
const { contents } = await readData("fashionMnist");
mkdirSync(out, { recursive: true });
for (const [part, perClass] of Object.entries(PARTS)) {
  const [images, labels] = ["images-idx3", "labels-idx1"].map((kind) => `${part}-${kind}-ubyte.gz`);
  const labelOf = contents[labels].subarray(8);
  const pixels = contents[images].subarray(16);
  const left = new Map(CLASSES.map((label) => [label, perClass]));
  const chosen = [...labelOf.keys()].filter((image) => {
    const more = left.get(labelOf[image]) ?? 0;
    left.set(labelOf[image], more - 1);
    return more > 0;
  });
  const size = SIDE * SIDE;
  write(
    images,
    [chosen.length, SIDE, SIDE],
    Buffer.concat(chosen.map((i) => pixels.subarray(i * size, (i + 1) * size))),
  );
  write(labels, [chosen.length], Buffer.from(chosen.map((i) => labelOf[i])));
}

/** An IDX file of unsigned bytes. */
function write(name, shape, data) {
  const header = Buffer.alloc(4 + 4 * shape.length);
  header.writeUInt8(0x08, 2);
  header.writeUInt8(shape.length, 3);
  for (const [axis, length] of shape.entries()) header.writeUInt32BE(length, 4 + 4 * axis);
  writeFileSync(join(out, name), gzipSync(Buffer.concat([header, data]), { level: 9 }));
}
