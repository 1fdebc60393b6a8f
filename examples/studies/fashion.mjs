// A task for studies: the classes 5 to 9 of Fashion-MNIST, which the base of images (examples/bases/vit.mjs) has not seen. The head has all
// ten, so that it is a new one.
import { FASHION_MNIST_CLASSES, ImageBatches, openDirectory, readIdx } from "safetape/data";

const FIRST = 5;

/** Labelled images of a part of the data that have one of these classes. */
async function read({ path, preprocessor }, part) {
  const files = ["images-idx3", "labels-idx1"].map((kind) => `${part}-${kind}-ubyte.gz`);
  const settings = { classes: FASHION_MNIST_CLASSES.length, preprocessor: await preprocessor() };
  const images = await readIdx(await openDirectory(path), ...files, settings);
  return images.filter(({ label }) => label >= FIRST);
}

export const tasks = {
  fashion_5_to_9: {
    head: { task: "image_classification", labels: FASHION_MNIST_CLASSES.length },
    async read(options) {
      const { model, choose, evaluateOnly } = options;
      const labelOf = ({ label }) => label;
      const train = evaluateOnly ? [] : choose("train", await read(options, "train"), labelOf);
      const dev = choose("dev", await read(options, "t10k"), labelOf);
      return {
        train: (size, seed) => new ImageBatches(train, model, { size, seed }),
        dev: (size) => new ImageBatches(dev, model, { size, shuffle: false }).restOfEpoch(),
        labelNames: FASHION_MNIST_CLASSES,
        truncated: 0,
      };
    },
  },
};
