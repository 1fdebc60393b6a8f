import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, it } from "vitest";
import { createEngine, initialiseModel, openDirectory, saveModel } from "safetape";
import { runCli } from "../support/cli";

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "safetape-squad-"));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

/** Questions whose answer is always the word after "is": a head can learn that from positions and words. */
function squad(count: number): string {
  const words = ["boring", "dull", "brilliant", "slow", "moving", "flat"];
  const paragraphs = Array.from({ length: count }, (_, i) => {
    const answer = words[i % words.length]!;
    const context = `the film is ${answer} and the plot was long`;
    const answers = [{ text: answer, answer_start: context.indexOf(answer) }];
    return { context, qas: [{ id: `q${i}`, question: "the film", answers }] };
  });
  return JSON.stringify({ version: "1.1", data: [{ title: "films", paragraphs }] });
}

it("learns to answer, evaluates on the way, keeps the best adapter and reports exact match and F1", async () => {
  const model = join(folder, "model");
  {
    using engine = await createEngine();
    const config = JSON.parse(readFileSync("examples/model/config.json", "utf8")) as Record<string, unknown>;
    const small = { hidden_size: 32, num_hidden_layers: 2, num_attention_heads: 2, intermediate_size: 32 };
    using loaded = await initialiseModel(engine, { ...config, ...small, initializer_range: 0.1 }, { seed: 2 });
    await saveModel(await openDirectory(model, { create: true }), loaded);
  }
  for (const file of ["tokenizer.json", "tokenizer_config.json"]) {
    writeFileSync(join(model, file), readFileSync(`examples/model/${file}`));
  }
  writeFileSync(join(folder, "train-v1.1.json"), squad(24));
  writeFileSync(join(folder, "dev-v1.1.json"), squad(6));
  const out = join(folder, "out");
  const args = ["--model", model, "--task", "squad", "--data", folder, "--out", out, "--adapter", "bitfit"];
  const run = ["--epochs", "12", "--batch", "8", "--lr", "0.02", "--max-length", "24", "--eval-every", "15", "--json"];
  const result = await runCli(["train", ...args, ...run]);
  expect(result.code, result.stderr).toBe(0);
  expect(result.stderr.match(/^evaluated: exactMatch/gm)?.length, "evaluations on the way").toBeGreaterThanOrEqual(2);
  const last = JSON.parse(result.stdout.trim().split("\n").at(-1)!) as { metrics: Record<string, number> };
  const record = JSON.parse(readFileSync(join(out, "run.json"), "utf8")) as {
    evaluations: { metrics: Record<string, number> }[];
  };
  const best = Math.max(...record.evaluations.map(({ metrics }) => metrics["exactMatch"]!));
  expect(last.metrics["exactMatch"], "the best of all evaluations").toBeGreaterThanOrEqual(best);
  expect(last.metrics["f1"], "words of the answer always follow the same three").toBeGreaterThan(50);
});
