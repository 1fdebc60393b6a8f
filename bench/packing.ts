import { lora } from "../src/adapter/lora";
import { Batches } from "../src/data/batches";
import { conversationSamples, readConversations } from "../src/data/jsonl";
import { groupByLength, packSamples } from "../src/data/packing";
import type { Engine } from "../src/engine";
import { initialiseModel } from "../src/io/load-model";
import { openDirectory } from "../src/node/index";
import { loadTokenizer } from "../src/node/entry/data";
import { Trainer } from "../src/train/trainer";
import { main } from "./support/main";
import { report, round } from "./support/results";

const DATA = "../shared/data";
const LONGEST = 256;
/** Rows of batches that have about as many tokens: of texts, and of rows that are full. */
const TEXTS = 16;
const FULL_ROWS = 4;
const STEPS = 10;
const MODEL = {
  model_type: "llama",
  architectures: ["LlamaForCausalLM"],
  hidden_size: 128,
  intermediate_size: 344,
  num_hidden_layers: 4,
  num_attention_heads: 4,
  num_key_value_heads: 2,
  max_position_embeddings: LONGEST,
  vocab_size: 49152,
};

/**
 * Trains a LoRA on real instructions in rows of their own, in batches by length and in packed rows, and compares how many
 * tokens of texts go through a second: padding costs as much as they do. All three run in turn, step by step.
 */
export async function packing(engine: Engine): Promise<void> {
  const tokenizer = await loadTokenizer(await openDirectory(`${DATA}/tokenizers/smollm2`));
  const conversations = await readConversations(`${DATA}/instructions`, "instructions.jsonl");
  const { samples } = conversationSamples(conversations, tokenizer, { maxLength: LONGEST });
  using model = await initialiseModel(engine, MODEL);
  const options = { labels: "token", maxLength: LONGEST, size: TEXTS } as const;
  const runs = await Promise.all(
    Object.entries({
      "rows of their own": new Batches(samples, options),
      "by length": new Batches(samples, { ...options, shuffle: groupByLength }),
      packed: new Batches(packSamples(samples, LONGEST), { ...options, size: FULL_ROWS, multiple: LONGEST }),
    }).map(async ([rows, batches]) => {
      const counted = { tokens: 0, places: 0, seconds: 0 };
      const drawn: Pick<typeof counted, "tokens" | "places">[] = [];
      const data = {
        perEpoch: batches.perEpoch,
        next() {
          const batch = batches.next();
          const tokens = batch.attentionMask.reduce((sum, text) => sum + Math.min(1, text), 0);
          drawn.push({ tokens, places: batch.size * batch.length });
          return batch;
        },
      };
      const trainer = await Trainer.create({ model, adapter: lora({ rank: 8 }), data, steps: STEPS });
      return { rows, batches, trainer, steps: trainer.steps(), drawn, counted };
    }),
  );
  for (let step = 0; step < STEPS; step++) {
    for (const { steps, drawn, counted } of runs) {
      const { value: done } = await steps.next();
      // New shapes are planned and compiled in the first steps that have them.
      if (!done || step < STEPS / 2) continue;
      const { tokens, places } = drawn[step]!;
      counted.tokens += tokens;
      counted.places += places;
      counted.seconds += done.seconds;
    }
  }
  const speed = ({ counted }: (typeof runs)[number]): number => counted.tokens / counted.seconds;
  const results = runs.map((run) => ({
    rows: run.rows,
    "batches an epoch": run.batches.perEpoch,
    "share of padding": round(1 - run.counted.tokens / run.counted.places),
    "tokens of texts a second": round(speed(run)),
    ratio: round(speed(run) / speed(runs[0]!)),
  }));
  for (const { trainer } of runs) trainer.dispose();
  await report(engine, "packing", results);
}

await main("packing", packing);
