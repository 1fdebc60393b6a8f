import { readdir, stat } from "node:fs/promises";
import { dirname, join, posix } from "node:path";
import { DataError } from "../../base/errors";
import { readCifar } from "../../data/cifar";
import { readIdx } from "../../data/idx";
import { imageFiles, readImages } from "../../data/image-folder";
import type { ImageFile } from "../../data/image-folder";
import { readImageList } from "../../data/image-list";
import type { ImageListKind, ListedImage } from "../../data/image-list";
import { ImageBatches, imageSpec } from "../../data/images";
import type { ImageSample } from "../../data/images";
import type { Directory } from "../../io/directory";
import { openDirectory } from "../../node/directory";
import { publishedSplit } from "./published-split";
import { labelPositions, unknownClass } from "./task-data";
import type { EvaluationPart, TaskData, TaskOptions } from "./task-data";

const TEST_PART = "test";
/** Names of the part of an image data set to evaluate on; the first that exists is used. Beside another, the last is a test set. */
const DEV_PARTS = ["dev", "val", "valid", "validation", TEST_PART];

const CIFAR_10_CLASSES = [
  ...["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"],
] as const;

const isFile = async (path: string): Promise<boolean> => (await stat(path).catch(() => undefined))?.isFile() ?? false;

const subfolders = async (path: string): Promise<string[]> => {
  const entries = await readdir(path, { withFileTypes: true }).catch(() => []);
  return entries
    .filter((entry) => entry.isDirectory())
    .map(({ name }) => name)
    .sort();
};

/**
 * The images of a part of a data set, which is laid out in one of these ways; undefined if there is no such part:
 * - PART/CLASS/*.png, also below images/, and with another folder images/ in every class (TinyImageNet's training set)
 * - PART/val_annotations.txt and PART/images/* (TinyImageNet's validation set)
 * - PART.csv with lines of path and class
 * - meta/PART.txt and images/CLASS/*.jpg (Food-101)
 */
async function listPart(path: string, part: string): Promise<ListedImage[] | undefined> {
  const lists: readonly (readonly [file: string, kind: ImageListKind, folder: string])[] = [
    [`${part}.csv`, "csv", ""],
    [`${part}/val_annotations.txt`, "annotations", `${part}/images`],
    [`meta/${part}.txt`, "food", "images"],
  ];
  for (const [file, kind, folder] of lists) {
    if (!(await isFile(join(path, file)))) continue;
    const listed = await readImageList(await openDirectory(join(path, dirname(file))), posix.basename(file), kind);
    return listed.map((image) => ({ ...image, path: posix.join(folder, image.path) }));
  }
  for (const folder of [part, posix.join("images", part)]) {
    const classes = await subfolders(join(path, folder));
    // TinyImageNet's test images have no classes: they lie in one folder.
    if (classes.length === 0 || classes.join() === "images") continue;
    const listed: ListedImage[] = [];
    for (const name of classes) {
      const isNested = (await subfolders(join(path, folder, name))).includes("images");
      const inside = posix.join(folder, name, isNested ? "images" : "");
      const files = await imageFiles(await openDirectory(join(path, inside)));
      listed.push(...files.map((file) => ({ path: posix.join(inside, file), name })));
    }
    return listed;
  }
  return undefined;
}

/** The training images of a data set. @throws DataError if there are none. */
async function listTrain(path: string): Promise<ListedImage[]> {
  const listed = await listPart(path, "train");
  if (listed) return listed;
  const files = await readdir(path).catch(() => []);
  const matlab = files.find((file) => file.endsWith(".mat"));
  if (matlab !== undefined) {
    throw new DataError(
      `${join(path, matlab)} is a MATLAB file, which is not read`,
      "convert its labels to train.csv with scipy.io.loadmat, as docs/guide/own-data.md shows",
    );
  }
  throw new DataError(
    `${join(path, "train")} has no class folders`,
    "make one folder per class, DATA/train/CLASS/*.png, or DATA/train.csv with a path and a class in each line",
  );
}

/** Names of the classes of the training images, sorted. @throws DataError if there are none. */
export async function classNames(path: string): Promise<string[]> {
  return [...new Set((await listTrain(path)).map(({ name }) => name))].sort();
}

/** The images to evaluate on. */
async function listEvaluation({
  path,
  evaluateOn = "validation",
}: TaskOptions): Promise<{ readonly dev: ListedImage[] | undefined; readonly part: EvaluationPart }> {
  const listed: ListedImage[][] = [];
  for (const name of DEV_PARTS) {
    const images = listed.length === 0 || name === TEST_PART ? await listPart(path, name) : undefined;
    if (images) listed.push(images);
  }
  const [dev, test] = listed;
  if (!test) return { dev, part: "dev" };
  return { dev: evaluateOn === "test" ? test : dev, part: evaluateOn };
}

/** Reads images in class folders, as torchvision and Hugging Face do, or in the layouts of `listPart`. */
export async function readImagesTask(options: TaskOptions): Promise<TaskData> {
  const { path, model, evaluateOnly = false } = options;
  const train = evaluateOnly ? [] : await listTrain(path);
  const labelNames = options.labelNames ?? [...new Set(train.map(({ name }) => name))].sort();
  const { dev, part } = await listEvaluation(options);
  if (evaluateOnly && !dev) throw noDevSet(path, DEV_PARTS);
  const preprocessor = await options.preprocessor();
  const folders = new Map<string, Directory>();
  const read = async (listed: readonly ListedImage[]): Promise<ImageSample[]> => {
    const files: ImageFile[] = [];
    for (const { path: inside, name } of listed) {
      const folder = join(path, dirname(inside));
      const directory = folders.get(folder) ?? (await openDirectory(folder));
      folders.set(folder, directory);
      const label = labelNames.indexOf(name);
      if (label < 0) throw unknownClass(path, name, labelNames);
      files.push({ directory, file: posix.basename(inside), label });
    }
    return readImages(files, { spec: imageSpec(model), preprocessor });
  };
  return imageData(options, await read(train), await read(dev ?? []), labelNames, part);
}

/** Reads CIFAR's binary files: all training files in the folder, and the test set. */
export async function readCifarTask(classes: 10 | 100, options: TaskOptions): Promise<TaskData> {
  const { path, model, evaluateOnly = false } = options;
  const folder = await openDirectory(path);
  const settings = { spec: imageSpec(model), preprocessor: await options.preprocessor() };
  const [trainFile, testFile] = classes === 10 ? ["data_batch_1.bin", "test_batch.bin"] : ["train.bin", "test.bin"];
  const names = (await folder.list()).filter((file) => /^(?:data_batch_\d+|train)\.bin$/.test(file));
  const labelNames = classes === 10 ? CIFAR_10_CLASSES : Array.from({ length: 100 }, (_, i) => `CIFAR-100's ${i}`);
  const train: ImageSample[] = [];
  for (const file of evaluateOnly ? [] : names.length > 0 ? names : [trainFile]) {
    train.push(...(await readCifar(folder, file, classes, settings)));
  }
  const hasTest = (await folder.size(testFile)) !== undefined;
  if (evaluateOnly && !hasTest) throw noDevSet(path, [testFile]);
  const test = hasTest ? await readCifar(folder, testFile, classes, settings) : [];
  return imageData(options, train, withLabelsOf(test, labelNames, options.labelNames, path), labelNames);
}

/** Reads the IDX files of MNIST and Fashion-MNIST: train-images-idx3-ubyte and so on, plain or with .gz. */
export async function readMnistTask(labelNames: readonly string[], options: TaskOptions): Promise<TaskData> {
  const { path, model, evaluateOnly = false } = options;
  const folder = await openDirectory(path);
  const settings = { classes: labelNames.length, spec: imageSpec(model), preprocessor: await options.preprocessor() };
  const names = await folder.list();
  const read = async (part: string): Promise<ImageSample[]> => {
    const fileOf = (what: string): string => {
      const published = `${part}-${what}-ubyte`;
      // Some copies have a full stop in place of the last hyphen but one.
      const candidates = [published, published.replace("-idx", ".idx")].flatMap((name) => [name, `${name}.gz`]);
      return candidates.find((name) => names.includes(name)) ?? published;
    };
    return readIdx(folder, fileOf("images-idx3"), fileOf("labels-idx1"), settings);
  };
  const hasTest = names.some((name) => name.startsWith("t10k-images"));
  if (evaluateOnly && !hasTest) throw noDevSet(path, ["t10k-images-idx3-ubyte"]);
  const test = hasTest ? await read("t10k") : [];
  const dev = withLabelsOf(test, labelNames, options.labelNames, path);
  return imageData(options, evaluateOnly ? [] : await read("train"), dev, labelNames);
}

const noDevSet = (path: string, names: readonly string[]): DataError =>
  new DataError(`${path} has no images to evaluate on`, `add ${names.join(" or ")}`);

/** Images with labels as positions in the classes of a model. @throws DataError for a class that it does not have. */
function withLabelsOf(
  samples: readonly ImageSample[],
  names: readonly string[],
  target: readonly string[] | undefined,
  where: string,
): readonly ImageSample[] {
  const positions = labelPositions(names, target);
  if (!positions || !target) return samples;
  return samples.map((sample) => {
    const label = positions[sample.label]!;
    if (label < 0) throw unknownClass(where, names[sample.label]!, target);
    return {
      label,
      get pixels() {
        return sample.pixels;
      },
    };
  });
}

function imageData(
  { model, split, choose }: TaskOptions,
  allTrain: readonly ImageSample[],
  allDev: readonly ImageSample[],
  labelNames: readonly string[],
  part: EvaluationPart = "dev",
): TaskData {
  const labelOf = ({ label }: ImageSample): number => label;
  const chosen = [choose("train", allTrain, labelOf), choose(part, allDev, labelOf)] as const;
  const { train, validation, test } = publishedSplit(split, ...chosen);
  const inOrder = (samples: readonly ImageSample[]) => (size: number) =>
    new ImageBatches(samples, model, { size, shuffle: false }).restOfEpoch();
  const data = {
    train: (size: number, seed: number) => new ImageBatches(train, model, { size, seed }),
    dev: validation.length > 0 ? inOrder(validation) : undefined,
    labelNames,
    truncated: 0,
  };
  return test.length > 0 ? { ...data, moreDevSets: { test: { batches: inOrder(test) } } } : data;
}
