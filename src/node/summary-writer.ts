import { appendFile, writeFile } from "node:fs/promises";
import { hostname } from "node:os";
import { join } from "node:path";
import { SummaryWriter } from "../report/summary-writer";
import type { SummaryWriterOptions } from "../report/summary-writer";
import { errorCode, explained, openDirectory, pathOf } from "./directory";

/**
 * Begins a new event file for TensorBoard in a directory, `events.out.tfevents.SECONDS.HOST.NUMBER`; the directory is made if
 * necessary. Every call of the writer appends its records at once. A run that is resumed begins a further file there, with
 * `purgeStep`.
 * @param place the directory's path, or a `file:` address. TensorBoard takes it, or a folder of several, as `--logdir`.
 * @throws FileFormatError if the directory cannot be written.
 */
export async function openSummaryWriter(
  place: string | URL,
  options: SummaryWriterOptions = {},
): Promise<SummaryWriter> {
  await openDirectory(place, { create: true });
  const path = await createFile(pathOf(place), Math.floor(Date.now() / 1000));
  const append = (records: Uint8Array): Promise<void> =>
    explained(`cannot append to ${path}`, () => appendFile(path, records));
  return new SummaryWriter(append, options);
}

/** Creates an empty event file of a name that is free. TensorBoard reads the files of a directory in the order of their names. */
async function createFile(path: string, seconds: number, number = 0): Promise<string> {
  const file = join(path, `events.out.tfevents.${seconds}.${hostname()}.${number}`);
  const isNew = await explained(`cannot create ${file}`, () =>
    writeFile(file, "", { flag: "wx" }).then(
      () => true,
      (error: unknown) => {
        if (errorCode(error) === "EEXIST") return false;
        throw error;
      },
    ),
  );
  return isNew ? file : createFile(path, seconds, number + 1);
}
