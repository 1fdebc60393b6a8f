import { lora } from "../../src/adapter/lora";
import { Random } from "../../src/base/random";
import { sha256Hex } from "../../src/base/sha256";
import { Batches } from "../../src/data/batches";
import type { Batch } from "../../src/data/batch";
import type { Engine } from "../../src/engine";
import { fixed } from "../../src/freeze/fixed";
import { safe } from "../../src/freeze/safe";
import { initialiseModel } from "../../src/io/load-model";
import type { TrainerOptions } from "../../src/train/options";
import { Trainer } from "../../src/train/trainer";

/** What a run of tests and benches of several devices is like. Plain JSON. */
export interface Subject {
  readonly steps: number;
  /** Rows of a batch. */
  readonly batch: number;
  readonly layers?: number;
  readonly hidden?: number;
  readonly rank?: number;
  readonly accumulate?: number;
  readonly microBatch?: number;
  readonly policy?: "safe" | "fixed";
  /** Seed of the model's weights, and so of the base. Default 0. */
  readonly base?: number;
  readonly dropout?: number;
  /** Default 1e-3. */
  readonly learningRate?: number;
}

/** Tokens of the longest row. */
const LONGEST = 16;

/** Rows of varying lengths, and batches of them. */
export function dataOf({ batch }: Subject): Batches {
  const random = new Random(7);
  const samples = Array.from({ length: 6 * batch - 1 }, (_, i) => ({
    ids: Int32Array.from({ length: 4 + random.below(LONGEST - 4) }, () => 5 + random.below(900)),
    label: i % 2,
  }));
  return new Batches(samples, { size: batch, seed: 5, maxLength: LONGEST });
}

/** A probe of four batches, which devices share. */
function probeOf(subject: Subject): Batch[] {
  const data = dataOf(subject);
  return Array.from({ length: 4 }, () => data.next());
}

/** Digest of all tensors of a run's adapter. */
export async function digestOf(trainer: Trainer): Promise<string> {
  const digests: string[] = [];
  for (const [name, { data }] of await trainer.snapshot()) {
    digests.push(`${name} ${await sha256Hex(new Uint8Array(data.buffer, data.byteOffset, data.byteLength))}`);
  }
  return sha256Hex(new TextEncoder().encode(digests.join()));
}

/** A trainer of a small BERT on random rows, with dropout. */
export async function subjectTrainer(
  engine: Engine,
  subject: Subject,
  options: Partial<TrainerOptions> = {},
): Promise<Trainer> {
  const {
    steps,
    layers = 3,
    hidden = 16,
    rank = 2,
    accumulate = 1,
    policy,
    base = 0,
    dropout = 0.1,
    learningRate = 1e-3,
    microBatch,
  } = subject;
  const config = {
    model_type: "bert",
    vocab_size: 1000,
    hidden_size: hidden,
    num_hidden_layers: layers,
    num_attention_heads: 2,
    intermediate_size: 2 * hidden,
    max_position_embeddings: 64,
    num_labels: 2,
  };
  const model = await initialiseModel(engine, config, { seed: base });
  const created = Trainer.create({
    model,
    adapter: lora({ rank, dropout }),
    data: dataOf(subject),
    steps,
    accumulate,
    seed: 3,
    optimizer: { learningRate, maxGradNorm: 1 },
    ...(microBatch !== undefined && { memory: { microBatch } }),
    ...(policy === "safe" && {
      policy: safe({ every: 2, maxWarmup: 1, scores: "warmup", rampEnd: 2 }),
      probe: probeOf(subject),
    }),
    ...(policy === "fixed" && { policy: fixed([{ beforeStep: 3, tensors: ["layer.0."] }]) }),
    ...options,
  });
  // Whoever is refused leaves nothing on the device.
  return created.catch((error: unknown) => {
    model.dispose();
    throw error;
  });
}
