import { readRun } from "../../src/train/checkpoint/file";
import { checkRun, extraOf, heldInMemory, historyOf } from "../../src/train/checkpoint/record";
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
    const state = await readRun(directory, FILE);
    const { tensors } = await heldInMemory(state);
    for (const { shape, read } of tensors.values()) {
      must((await read()).length === shape.reduce((product, size) => product * size, 1), "elements of a tensor");
    }
    must(Number.isSafeInteger(state.saved.step) && state.saved.step >= 0, "a step");
    await historyOf({ ...state, tensors });
    await extraOf({ ...state, tensors });
    checkRun(state, new Map([["a", { shape: [2, 2], dtype: "f32" }]]), 2);
  },
};

export const RUN_READERS: readonly Reader[] = [checkpoint];
