import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { expect, it } from "vitest";
import { initialiseModel, loadAdapter, loadModel, lora, openDirectory, saveAdapter, saveMerged } from "safetape";
import { saveModel, Trainer } from "safetape";
import type { TrainerOptions } from "safetape";
import { readRunRecord, RunLog, saveReport } from "safetape/analysis";
import { useEngine } from "../support/engine";
import { useFolder } from "../support/folder";
import { tiny, tinyData } from "../support/tiny";

const engine = await useEngine();
const folder = useFolder();

it("what a trainer writes and reads may be named by paths and file: addresses, which are made", async () => {
  using model = await initialiseModel(engine, tiny.bert());
  const at = (name: string): string => join(folder(), "new", name);
  const options = (checkpoints: TrainerOptions["checkpoints"]): TrainerOptions => ({
    model,
    adapter: lora({ rank: 2 }),
    data: tinyData(model),
    steps: 2,
    ...(checkpoints && { checkpoints }),
  });
  {
    using trainer = await Trainer.create(options({ directory: at("run"), every: 1 }));
    await trainer.train();
    expect(await trainer.saveCheckpoint(pathToFileURL(at("other")))).toBe("checkpoint-00000002.safetensors");
    await saveAdapter(pathToFileURL(at("adapter")), trainer);
    await saveMerged(at("merged"), trainer);
    const record = new RunLog().record(trainer, {
      title: "run",
      task: "sst2",
      command: "",
      versions: {},
      metrics: {},
      evaluations: [],
    });
    await saveReport(pathToFileURL(at("report")), record);
    expect((await readRunRecord(at("report"))).title).toBe("run");
    const { tensors } = await loadAdapter(at("adapter"), model);
    expect(tensors.size).toBeGreaterThan(0);
  }
  expect(await (await openDirectory(pathToFileURL(at("run")))).list()).toHaveLength(2);
  for (const checkpoints of [{ resume: at("other") }, { directory: pathToFileURL(at("run")), resume: true }]) {
    using resumed = await Trainer.create(options(checkpoints));
    expect(resumed.progress.step).toBe(2);
  }
  await saveModel(at("model"), model);
  for (const place of [at("merged"), pathToFileURL(at("model"))]) (await loadModel(engine, place)).dispose();
});
