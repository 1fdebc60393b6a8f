import { readFile } from "node:fs/promises";
import { lora } from "../src/adapter/lora";
import type { Engine } from "../src/engine";
import { initialiseModel } from "../src/io/load-model";
import type { LoadedModel } from "../src/io/load-model";
import { Trainer } from "../src/train/trainer";
import { bertConfig, randomBatches } from "./support/model";
import { main } from "./support/main";
import { adapterName, median, round, writeResults } from "./support/results";

const [WIDTH, NEURONS, HEADS, LAYERS, VOCABULARY] = [256, 1024, 4, 4, 1000];
const [ROWS, LENGTH] = [8, 64];
/** Rounds in which both models take a step, and those before, which compile kernels. */
const [ROUNDS, FIRST_ROUNDS] = [5, 2];
/** Most times of BERT's time per FLOP that a family may take. */
const BOUND = 1.3;

type Config = Readonly<Record<string, unknown>>;

const TEXT = { vocab_size: VOCABULARY, max_position_embeddings: 512, num_labels: 2, pad_token_id: 0 };
const SIZES = {
  hidden_size: WIDTH,
  num_hidden_layers: LAYERS,
  num_attention_heads: HEADS,
  intermediate_size: NEURONS,
};
const encoder = (model_type: string, more: Config = {}): Config => ({ ...TEXT, ...SIZES, model_type, ...more });
/** A language model in which two heads of queries share one head of keys and values. */
const decoder = (model_type: string, architecture: string, more: Config = {}): Config =>
  encoder(model_type, { num_key_value_heads: HEADS / 2, architectures: [`${architecture}ForCausalLM`], ...more });
/** Images of 64 patches; Swin's windows are four of them at a side. */
const IMAGES = { image_size: 32, patch_size: 4, num_channels: 3, num_labels: 2 };
const images = (model_type: string, more: Config = {}): Config => ({ ...SIZES, ...IMAGES, model_type, ...more });
const swin = (model_type: string): Config => ({
  ...IMAGES,
  model_type,
  embed_dim: WIDTH,
  depths: [LAYERS],
  num_heads: [HEADS],
  window_size: 4,
  mlp_ratio: 4,
});
/** Half of the layers are the encoder's. */
const seq2seq = { vocab_size: VOCABULARY, d_model: WIDTH, eos_token_id: 1 };

/** Every family with four layers of 256, heads of 64, and 1024 neurons. */
const FAMILIES: Readonly<Record<string, Config>> = {
  roberta: encoder("roberta", { pad_token_id: 1 }),
  "xlm-roberta": encoder("xlm-roberta", { pad_token_id: 1 }),
  distilbert: { ...TEXT, model_type: "distilbert", dim: WIDTH, n_layers: LAYERS, n_heads: HEADS, hidden_dim: NEURONS },
  electra: encoder("electra", { embedding_size: 128 }),
  albert: encoder("albert", { embedding_size: 128 }),
  mpnet: encoder("mpnet", { pad_token_id: 1 }),
  modernbert: encoder("modernbert", { local_attention: 32 }),
  "deberta-v3": encoder("deberta-v2", {
    relative_attention: true,
    share_att_key: true,
    norm_rel_ebd: "layer_norm",
    pos_att_type: ["p2c", "c2p"],
    position_buckets: 32,
    position_biased_input: false,
  }),
  gpt2: {
    model_type: "gpt2",
    vocab_size: VOCABULARY,
    n_positions: 512,
    n_embd: WIDTH,
    n_layer: LAYERS,
    n_head: HEADS,
    architectures: ["GPT2LMHeadModel"],
  },
  llama: decoder("llama", "Llama"),
  qwen2: decoder("qwen2", "Qwen2"),
  qwen3: decoder("qwen3", "Qwen3", { head_dim: 64 }),
  mistral: decoder("mistral", "Mistral", { sliding_window: 32 }),
  phi3: decoder("phi3", "Phi3"),
  gemma2: decoder("gemma2", "Gemma2", { head_dim: 64, sliding_window: 32 }),
  gemma3: decoder("gemma3_text", "Gemma3", { head_dim: 64, sliding_window: 32 }),
  olmo2: decoder("olmo2", "Olmo2"),
  smollm3: decoder("smollm3", "SmolLM3"),
  gpt_neox: encoder("gpt_neox", { architectures: ["GPTNeoXForCausalLM"] }),
  t5: {
    ...seq2seq,
    model_type: "t5",
    d_kv: WIDTH / HEADS,
    d_ff: NEURONS,
    num_heads: HEADS,
    num_layers: LAYERS / 2,
    num_decoder_layers: LAYERS / 2,
    feed_forward_proj: "gated-gelu",
    tie_word_embeddings: false,
  },
  bart: {
    ...seq2seq,
    model_type: "bart",
    encoder_layers: LAYERS / 2,
    encoder_attention_heads: HEADS,
    encoder_ffn_dim: NEURONS,
    decoder_layers: LAYERS / 2,
    decoder_attention_heads: HEADS,
    decoder_ffn_dim: NEURONS,
    max_position_embeddings: 512,
  },
  vit: images("vit"),
  deit: images("deit"),
  dinov2: images("dinov2", { mlp_ratio: 4 }),
  swin: swin("swin"),
  swinv2: swin("swinv2"),
};

/** A run and the CPU time of its timed steps. CPU times are of all threads, and are disturbed less than the clock. */
interface Run {
  readonly trainer: Trainer;
  readonly steps: ReturnType<Trainer["steps"]>;
  readonly cpuMs: number[];
  flops: number;
}

async function start(model: LoadedModel): Promise<Run> {
  const trainer = await Trainer.create({
    model,
    adapter: lora({ rank: 4, alpha: 16 }),
    data: randomBatches(model, ROWS, LENGTH),
    steps: ROUNDS + FIRST_ROUNDS + 1,
    schedule: { type: "constant" },
  });
  return { trainer, steps: trainer.steps(), cpuMs: [], flops: 0 };
}

async function takeStep(run: Run, isTimed: boolean): Promise<void> {
  const before = process.cpuUsage();
  const { value } = await run.steps.next();
  const { user, system } = process.cpuUsage(before);
  if (!value) throw new Error("The run ended early.");
  run.flops = value.flops;
  if (isTimed) run.cpuMs.push((user + system) / 1000);
}

/** Milliseconds of a step by op and entry, most first. */
async function timesByEntry(trainer: Trainer): Promise<Record<string, number>> {
  const { dispatches } = await trainer.trace();
  const sums = new Map<string, number>();
  for (const { op, entry, ms } of dispatches) sums.set(`${op}.${entry}`, (sums.get(`${op}.${entry}`) ?? 0) + ms);
  return Object.fromEntries(
    [...sums]
      .sort(([, a], [, b]) => b - a)
      .slice(0, 6)
      .map(([name, ms]) => [name, round(ms)]),
  );
}

async function measure(engine: Engine, config: Config): Promise<Record<string, unknown>> {
  using base = await initialiseModel(engine, bertConfig(LAYERS, WIDTH));
  using model = await initialiseModel(engine, config);
  const runs = [await start(base), await start(model)] as const;
  try {
    for (let i = -FIRST_ROUNDS; i < ROUNDS; i++) {
      // Which comes first changes from round to round.
      for (const run of i % 2 === 0 ? runs : [...runs].reverse()) await takeStep(run, i >= 0);
    }
    const [bert, other] = runs;
    const perFlop = other.cpuMs.map((ms, i) => ms / other.flops / (bert.cpuMs[i]! / bert.flops));
    return {
      "time per FLOP over BERT's, median": round(median(perFlop)),
      "of the fastest steps": round(Math.min(...other.cpuMs) / other.flops / (Math.min(...bert.cpuMs) / bert.flops)),
      "CPU ms": round(median(other.cpuMs)),
      GFLOP: round(other.flops / 1e9),
      "BERT's CPU ms": round(median(bert.cpuMs)),
      "ms by entry": await timesByEntry(other.trainer),
    };
  } finally {
    for (const { trainer } of runs) trainer.dispose();
  }
}

/** The rows that the results have of earlier runs. */
async function earlierRows(engine: Engine): Promise<Record<string, Record<string, unknown>>> {
  try {
    const text = await readFile(`bench/results/families-${adapterName(engine)}.json`, "utf8");
    // Written below.
    return (JSON.parse(text) as { results: Record<string, Record<string, unknown>> }).results;
  } catch {
    return {};
  }
}

/**
 * Times a LoRA step (rank 4 on each family's usual targets) of every family against BERT's, step by step in turn, as time per
 * FLOP. `npm run bench:families -- WORD ...` measures the families with one of these words in their name, and replaces their rows in
 * the results.
 */
export async function families(engine: Engine, words = process.argv.slice(2)): Promise<void> {
  const rows = words.length > 0 ? await earlierRows(engine) : {};
  const names = Object.keys(FAMILIES).filter((name) => words.length === 0 || words.some((word) => name.includes(word)));
  for (const name of names) {
    rows[name] = await measure(engine, FAMILIES[name]!);
    console.log(name, rows[name]);
    const order = Object.keys(FAMILIES).filter((family) => rows[family]);
    const sorted = Object.fromEntries(order.map((family) => [family, rows[family]]));
    await writeResults(
      engine,
      "families",
      sorted,
      Object.keys(FAMILIES).filter((family) => !rows[family]),
    );
  }
  const slow = names.filter((name) => Number(rows[name]!["time per FLOP over BERT's, median"]) > BOUND);
  console.log(
    `${names.length - slow.length} of ${names.length} families on ${adapterName(engine)} take at most ${BOUND}`,
  );
  if (slow.length > 0) console.log(`times BERT's time per FLOP; ${slow.join(", ")} take longer.`);
}

await main("families", families);
