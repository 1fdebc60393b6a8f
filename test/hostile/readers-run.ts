import { readCheckpoint } from "../../src/train/checkpoint/file";
import { checkTensors, copyToHost, readExtra, readPosition } from "../../src/train/checkpoint/record";
import { JSON_WORDS, must } from "./reader";
import type { Reader } from "./reader";

const FILE = "checkpoint-00000002.safetensors";

const checkpoint: Reader = {
  name: "checkpoint",
  seeds: "checkpoint",
  file: FILE,
  form: "run",
  perByte: 128,
  words: [...JSON_WORDS, "safetape run", "sha256", '"I32"', '"version":1', '"step":'],
  async read(directory) {
    const run = await readCheckpoint(directory, FILE);
    const { tensors } = await copyToHost(run);
    for (const { shape, read } of tensors.values()) {
      must((await read()).length === shape.reduce((product, size) => product * size, 1), "elements of a tensor");
    }
    must(Number.isSafeInteger(run.record.step) && run.record.step >= 0, "a step");
    await readPosition({ ...run, tensors });
    await readExtra({ ...run, tensors });
    checkTensors(run.record, new Map([["a", {}]]), 2);
  },
};

export const RUN_READERS: readonly Reader[] = [checkpoint];
