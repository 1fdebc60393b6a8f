import { makeAdapter } from "../src/adapter/make";
import type { AdapterChoice } from "../src/adapter/make";
import { Random } from "../src/base/random";
import { WEIGHT_FORMATS } from "../src/base/packed";
import { Batches } from "../src/data/batches";
import { ImageBatches } from "../src/data/images";
import type { Engine } from "../src/engine";
import { LIFETIMES } from "../src/gpu/ledger";
import { initialiseModel } from "../src/io/load-model";
import type { LoadedModel } from "../src/io/load-model";
import { ACTIVATION_FORMATS } from "../src/op/pack";
import type { BatchSource } from "../src/train/options";
import { Trainer } from "../src/train/trainer";
import { main } from "./support/main";
import { report } from "./support/results";

const COMBINATIONS = 220;
const TEXT = { vocab_size: 60, max_position_embeddings: 40, num_labels: 2, pad_token_id: 0 };
const FAMILIES = ["bert", "roberta", "gpt2", "llama", "vit"] as const;
const ADAPTERS: readonly AdapterChoice[] = [
  { kind: "lora", rank: 2 },
  { kind: "lora", rank: 3, targets: "all-linear", dropout: 0.1 },
  { kind: "adalora", initialRank: 3, targetRank: 2 },
  { kind: "sora", rank: 2 },
  { kind: "vera", rank: 4 },
  { kind: "aflora", rank: 2 },
  { kind: "ia3" },
  { kind: "bitfit" },
  { kind: "houlsby", size: 4 },
  { kind: "pfeiffer", size: 4 },
];

/** Adapter kinds that a family does not support: LLaMA has no biases to train. */
const UNSUPPORTED: Readonly<Record<string, readonly string[]>> = { llama: ["bitfit"] };

/** Compares the ledger with the plan to the byte, for random options: at the start, after a step, a freeze and a step. */
export async function ledger(engine: Engine): Promise<void> {
  const random = new Random(20);
  const pick = <T>(items: readonly T[]): T => items[random.below(items.length)]!;
  const counts = new Map<string, { combinations: number; comparisons: number; unequal: number }>();
  for (let i = 0; i < COMBINATIONS; i++) {
    const family = pick(FAMILIES);
    const weights = pick(WEIGHT_FORMATS);
    const recompute = pick(["none", "mlp", "layers"] as const);
    const adapter = makeAdapter(pick(ADAPTERS.filter(({ kind }) => !UNSUPPORTED[family]?.includes(kind))));
    using model = await initialiseModel(engine, configOf(family, random), { weights, seed: i });
    const accumulate = 1 + random.below(2);
    const activations = pick(ACTIVATION_FORMATS);
    using trainer = await Trainer.create({
      model,
      adapter,
      memory: { recompute, activations },
      accumulate,
      data: dataOf(model, random),
      steps: 3,
      seed: i,
    });
    const count = counts.get(family) ?? { combinations: 0, comparisons: 0, unequal: 0 };
    const compare = (): void => {
      const [live, predicted] = [engine.ledger.live, trainer.predictedBytes()];
      count.comparisons++;
      if (LIFETIMES.some((lifetime) => live[lifetime] !== predicted[lifetime])) count.unequal++;
    };
    compare();
    const steps = trainer.steps();
    await steps.next();
    compare();
    const names = [...trainer.state.live.keys()];
    const frozen = names.filter(() => random.below(2) === 0);
    if (frozen.length > 0 && frozen.length < names.length) await trainer.freeze(frozen);
    compare();
    await steps.next();
    compare();
    counts.set(family, { ...count, combinations: count.combinations + 1 });
  }
  const left = engine.ledger.liveBytes;
  const rows = [...counts].map(([family, count]) => ({ family, ...count }));
  await report(engine, "ledger-equals-plan", [...rows, { family: "bytes left at the end", combinations: left }]);
  if (left > 0 || rows.some(({ unequal }) => unequal > 0)) throw new Error("The ledger and the plan differ.");
}

function configOf(family: (typeof FAMILIES)[number], random: Random): Record<string, unknown> {
  const layers = 1 + random.below(3);
  const sizes = {
    hidden_size: 8 * (1 + random.below(4)),
    num_hidden_layers: layers,
    num_attention_heads: 2,
    intermediate_size: 10 + random.below(30),
  };
  if (family === "gpt2") {
    const gpt2 = { n_embd: sizes.hidden_size, n_layer: layers, n_head: 2, n_positions: 40 };
    return { model_type: family, vocab_size: 60, ...gpt2, n_inner: sizes.intermediate_size };
  }
  if (family === "vit") return { model_type: family, ...sizes, image_size: 8, patch_size: 4, num_channels: 1 };
  const isText = family === "llama" && random.below(2) === 0;
  const heads = family === "llama" ? { num_key_value_heads: 1 + random.below(2) } : {};
  const architectures = isText ? ["LlamaForCausalLM"] : undefined;
  return { ...TEXT, ...sizes, ...heads, model_type: family, ...(architectures && { architectures }) };
}

function dataOf({ model }: LoadedModel, random: Random): BatchSource {
  const size = 1 + random.below(4);
  if (model.image) {
    const image = model.image.channels * model.image.size ** 2;
    const samples = Array.from({ length: 6 }, (_, i) => ({
      pixels: new Float32Array(image).fill(i / 6),
      label: i % 2,
    }));
    return new ImageBatches(samples, model, { size });
  }
  const isText = model.task === "causal_lm";
  const samples = Array.from({ length: 6 }, () => {
    const ids = Int32Array.from({ length: 3 + random.below(20) }, () => 2 + random.below(50));
    return { ids, label: isText ? ids : ids[0]! % 2 };
  });
  return new Batches(samples, { size, labels: isText ? "token" : "class" });
}

await main("ledger", ledger);
