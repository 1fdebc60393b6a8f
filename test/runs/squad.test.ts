import { writeFileSync } from "node:fs";
import { expect, it } from "vitest";
import { jsonLines, runCli } from "../support/cli";
import { useFolder } from "../support/folder";
import { readJson } from "../support/json";
import { TOKENIZERS, writeModel } from "../support/model-folder";
import type { Config } from "../support/tiny";

const path = useFolder();

/** Questions whose answer is always the word after "is", which a head can learn from positions and words. */
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

it("safetape train learns SQuAD, evaluates on the way, keeps the best adapter and reports exact match and F1", async () => {
  const config = readJson<Config>("examples/model/config.json");
  const sizes = { hidden_size: 32, num_hidden_layers: 2, num_attention_heads: 2, intermediate_size: 32 };
  const model = await writeModel(
    path("model"),
    { ...config, ...sizes, initializer_range: 0.1 },
    { tokenizer: TOKENIZERS.example, seed: 2 },
  );
  writeFileSync(path("train-v1.1.json"), squad(24));
  writeFileSync(path("dev-v1.1.json"), squad(6));
  const out = path("out");
  const args = ["--model", model, "--task", "squad", "--data", path(), "--out", out, "--adapter", "bitfit"];
  const run = ["--epochs", "12", "--batch", "8", "--lr", "0.02", "--max-length", "24", "--eval-every", "15", "--json"];
  const result = await runCli(["train", ...args, ...run]);
  expect(result.code, result.stderr).toBe(0);
  expect(result.stderr.match(/^evaluated: exactMatch/gm)?.length, "evaluations on the way").toBeGreaterThanOrEqual(2);
  interface Evaluated {
    readonly metrics: Readonly<Record<string, number>>;
  }
  const { metrics } = jsonLines<Evaluated>(result.stdout).at(-1)!;
  const record = readJson<{ readonly evaluations: readonly Evaluated[] }>(path("out", "run.json"));
  const best = Math.max(...record.evaluations.map((evaluation) => evaluation.metrics["exactMatch"]!));
  expect(metrics["exactMatch"], "the best of all evaluations").toBeGreaterThanOrEqual(best);
  expect(metrics["f1"], "F1, where an answer always follows the same three words").toBeGreaterThan(50);
});
