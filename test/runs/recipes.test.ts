import { copyFileSync, mkdirSync } from "node:fs";
import { expect, it } from "vitest";
import { openDirectory } from "safetape";
import { readRunRecord } from "safetape/analysis";
import { runCli } from "../support/cli";
import { useFolder } from "../support/folder";
import { writeSentiment } from "../support/model-folder";

const path = useFolder();

it("a run by a recipe records its name and options, and evaluates on another corpus", async () => {
  const data = writeSentiment(path(), 16);
  mkdirSync(path("other"));
  copyFileSync(path("dev.tsv"), path("other", "elsewhere.tsv"));
  const train = ["train", "--recipe", "safe/bert-base/sst2/bitfit", "--model", "examples/model", "--data", data];
  const small = ["--epochs", "1", "--batch", "8", "--max-length", "40", "--freeze", "never"];
  const other = ["--split", "files", "--eval-data", path("other", "elsewhere.tsv")];
  const result = await runCli([...train, ...small, ...other, "--out", path("out")]);
  expect(result.code, result.stderr).toBe(0);
  const record = await readRunRecord(await openDirectory(path("out")));
  expect(record.options).toMatchObject({ recipe: "safe/bert-base/sst2/bitfit", lr: 7e-4, batch: 8, adapter: "bitfit" });
  expect(record.command).toContain("--recipe safe/bert-base/sst2/bitfit");
  expect(record.steps).toHaveLength(2);
  expect(record.steps[0]!.learningRate).toBeCloseTo(7e-4, 10);
  expect(Object.keys(record.metrics)).toEqual(["accuracy", "loss"]);
});
