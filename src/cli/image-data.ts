import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { DataError } from "../base/errors";
import { readCifar } from "../data/cifar";
import { readImageFolder } from "../data/image-folder";
import { ImageBatches, imageSpec } from "../data/images";
import type { ImageSample } from "../data/images";
import type { Preprocessor } from "../data/preprocessor";
import type { Directory } from "../io/directory";
import type { Model } from "../model/model";
import { openDirectory } from "../node/directory";
import type { TaskData } from "./task-data";

/** Folders of an image data set that it may be judged by, the first that there is. */
const DEV = ["dev", "val", "validation", "test"];

/** Class folders of `DATA/train`, by name. @throws DataError where there is none. */
export async function classNames(path: string): Promise<string[]> {
  const entries = await readdir(join(path, "train"), { withFileTypes: true }).catch(() => []);
  const names = entries.filter((entry) => entry.isDirectory()).map(({ name }) => name);
  if (names.length > 0) return names.sort();
  throw new DataError(`${join(path, "train")} has no class folders`, "make DATA/train/CLASS/*.png, a folder a class");
}

/** Images in class folders, as torchvision and Hugging Face read them: DATA/train/CLASS/*.png, DATA/dev/CLASS/*.png. */
export async function readImages(path: string, model: Model, preprocessor: Preprocessor): Promise<TaskData> {
  const classes = await classNames(path);
  const read = async (part: string): Promise<ImageSample[]> => {
    const folders = await Promise.all(classes.map((name) => openDirectory(join(path, part, name))));
    return readImageFolder(folders, { spec: imageSpec(model), preprocessor });
  };
  const parts = await readdir(path);
  const dev = DEV.find((part) => parts.includes(part));
  return imageData(model, await read("train"), dev === undefined ? [] : await read(dev));
}

/** CIFAR's binary files: every one for training that there is, and the test set. */
export async function readCifarTask(
  folder: Directory,
  classes: 10 | 100,
  model: Model,
  preprocessor: Preprocessor,
): Promise<TaskData> {
  const options = { spec: imageSpec(model), preprocessor };
  const [trainFile, testFile] = classes === 10 ? ["data_batch_1.bin", "test_batch.bin"] : ["train.bin", "test.bin"];
  const names = (await folder.list()).filter((file) => /^(?:data_batch_\d+|train)\.bin$/.test(file));
  const train: ImageSample[] = [];
  for (const file of names.length > 0 ? names : [trainFile]) {
    train.push(...(await readCifar(folder, file, classes, options)));
  }
  const hasTest = (await folder.size(testFile)) !== undefined;
  return imageData(model, train, hasTest ? await readCifar(folder, testFile, classes, options) : []);
}

function imageData(model: Model, train: readonly ImageSample[], dev: readonly ImageSample[]): TaskData {
  return {
    train: (size, seed) => new ImageBatches(train, model, { size, seed }),
    dev: dev.length > 0 ? (size) => new ImageBatches(dev, model, { size, shuffle: false }).restOfEpoch() : undefined,
    truncated: 0,
  };
}
