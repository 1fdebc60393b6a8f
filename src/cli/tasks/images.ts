import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { DataError } from "../../base/errors";
import { readCifar } from "../../data/cifar";
import { readImageFolder } from "../../data/image-folder";
import { ImageBatches, imageSpec } from "../../data/images";
import type { ImageSample } from "../../data/images";
import type { Model } from "../../model/model";
import { openDirectory } from "../../node/directory";
import type { TaskData, TaskOptions } from "./task-data";

/** Names of the folder of an image data set to evaluate on; the first that exists is used. */
const DEV_FOLDERS = ["dev", "val", "validation", "test"];

/** Names of the class folders in `DATA/train`. @throws DataError if there are none. */
export async function classNames(path: string): Promise<string[]> {
  const entries = await readdir(join(path, "train"), { withFileTypes: true }).catch(() => []);
  const names = entries.filter((entry) => entry.isDirectory()).map(({ name }) => name);
  if (names.length > 0) return names.sort();
  throw new DataError(
    `${join(path, "train")} has no class folders`,
    "make one folder per class: DATA/train/CLASS/*.png",
  );
}

/** Reads images in class folders, as torchvision and Hugging Face do: DATA/train/CLASS/*.png, DATA/dev/CLASS/*.png. */
export async function readImagesTask({ path, model, ...load }: TaskOptions): Promise<TaskData> {
  const classes = await classNames(path);
  const preprocessor = await load.preprocessor();
  const read = async (part: string): Promise<ImageSample[]> => {
    const folders = await Promise.all(classes.map((name) => openDirectory(join(path, part, name))));
    return readImageFolder(folders, { spec: imageSpec(model), preprocessor });
  };
  const entries = await readdir(path);
  const dev = DEV_FOLDERS.find((folder) => entries.includes(folder));
  return imageData(model, await read("train"), dev === undefined ? [] : await read(dev));
}

/** Reads CIFAR's binary files: all training files in the folder, and the test set. */
export async function readCifarTask(classes: 10 | 100, { path, model, preprocessor }: TaskOptions): Promise<TaskData> {
  const folder = await openDirectory(path);
  const options = { spec: imageSpec(model), preprocessor: await preprocessor() };
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
