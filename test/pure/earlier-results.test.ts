import { mkdirSync, readdirSync, writeFileSync } from "node:fs";
import { expect, it } from "vitest";
import { openDirectory } from "safetape";
import { checkFolder, CONFIG_MARK, isOfRun, removeResults } from "../../src/cli/earlier-results";
import { csvFiles } from "../../src/report/csv";
import { pictures } from "../../src/report/save";
import { failure } from "../support/failure";
import { useFolder } from "../support/folder";
import { madeUpRecord } from "../support/run-record";

const path = useFolder();

it("knows every file that a report of a run has", () => {
  const record = madeUpRecord();
  const names = [...csvFiles(record), ...pictures(record)].map(({ file }) => file);
  expect(names.length).toBeGreaterThan(6);
  expect(names.filter((file) => !isOfRun(file))).toEqual([]);
});

const write = (...files: readonly string[]): void => files.forEach((file) => writeFileSync(path(file), "x"));

it("removes a run's own files, and leaves those of somebody else", async () => {
  write("run.json", "steps.csv", "loss.png", "trace.json", "model.safetensors", "config.json", "tokenizer.json");
  write("steps.txt", "data.csv", "README.md", "weights.safetensors");
  writeFileSync(path("config.yaml"), `${CONFIG_MARK}lr: 1\n`);
  mkdirSync(path("tensorboard"));
  write("tensorboard/events.out.tfevents.1.host", "tensorboard/notes");
  const { message } = await failure(checkFolder(path()));
  expect(message).toMatch(/has the results of an earlier run: model\.safetensors, run\.json\./);
  await removeResults(await openDirectory(path()));
  expect(readdirSync(path()).sort()).toEqual([
    "README.md",
    "data.csv",
    "steps.txt",
    "tensorboard",
    "weights.safetensors",
  ]);
  expect(readdirSync(path("tensorboard"))).toEqual(["notes"]);
  await checkFolder(path());
});

it("takes nothing but the weights of an adapter or a model that no run wrote", async () => {
  write("adapter_config.json", "adapter_model.safetensors", "config.json", "tokenizer.json", "steps.csv", "README.md");
  await failure(checkFolder(path()));
  await removeResults(await openDirectory(path()));
  expect(readdirSync(path()).sort()).toEqual(["README.md", "config.json", "steps.csv", "tokenizer.json"]);
});
