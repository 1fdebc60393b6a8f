import type { EvaluationPart, TaskData, TaskOptions } from "./task-data";
import { taskFiles } from "./task-data";
import { PreferenceBatches } from "../../preference/batches";
import { dpo } from "../../preference/dpo";
import { preferencePairs } from "../../preference/pairs";
import type { PreferencePair, PreferencePairs, ReferencedPair } from "../../preference/pairs";
import { readPreferences } from "../../preference/read";
import { withReference } from "../../preference/reference";
import { rewardScores } from "../../preference/rewards";

type Part = "train" | "dev";

/** Reads pairs of answers from train.jsonl, dev.jsonl and test.jsonl. A batch of so many rows is of so many pairs. */
export async function readDpoTask(options: TaskOptions): Promise<TaskData> {
  const { model, maxLength, choose, ...load } = options;
  const names = { train: ["train.jsonl"], dev: ["dev.jsonl"], test: ["test.jsonl"] };
  const files = await taskFiles(options, names);
  const [tokenizer, template] = [await load.tokenizer(), await load.chatTemplate?.()];
  const read = async (part: "train" | EvaluationPart, file: string | undefined): Promise<PreferencePairs> => {
    if (file === undefined) return { pairs: [], truncated: 0 };
    const preferences = choose(part, await readPreferences(files.folder, file, { template }));
    return preferencePairs(preferences, tokenizer, { maxLength, vocabularySize: model.vocabularySize });
  };
  const [train, dev] = [await read("train", files.train), await read(files.part, files.dev)];
  /** What `prepare` made, of weights in these formats. */
  let referenced:
    { readonly formats: string; readonly pairs: Readonly<Record<Part, readonly ReferencedPair[]>> } | undefined;
  const batches = (part: Part, size: number, order: { readonly seed: number } | { readonly shuffle: false }) =>
    new PreferenceBatches(referenced?.pairs[part] ?? [], { size, padId: model.padId, ...order });
  return {
    train: (size, seed) => batches("train", size, { seed }),
    dev: dev.pairs.length > 0 ? (size) => batches("dev", size, { shuffle: false }).restOfEpoch() : undefined,
    truncated: train.truncated + dev.truncated,
    scorer() {
      const { see, metrics } = rewardScores();
      return { see, metrics: () => ({ ...metrics() }) };
    },
    objective: dpo(options.dpo),
    async prepare(loaded, settings) {
      // Weights in fewer bits are another model, which gives other probabilities.
      const formats = loaded.model.parameters.map(({ dtype = "f32" }) => dtype).join();
      if (referenced?.formats === formats) return;
      const all: readonly PreferencePair[] = [...train.pairs, ...dev.pairs];
      const pairs = await withReference(loaded, all, settings);
      referenced = {
        formats,
        pairs: { train: pairs.slice(0, train.pairs.length), dev: pairs.slice(train.pairs.length) },
      };
    },
  };
}
