import { initialiseModel, lora, SafeTrainer } from "safetape";
import { Batches } from "safetape/data";
import type { Bytes, Engine, FreezeEvent, StepReport } from "safetape";

const CONFIG = {
  model_type: "bert",
  vocab_size: 30,
  hidden_size: 16,
  num_hidden_layers: 3,
  num_attention_heads: 2,
  intermediate_size: 32,
  max_position_embeddings: 16,
  num_labels: 2,
};

export interface TinyRun {
  readonly losses: readonly number[];
  readonly freezes: readonly Pick<FreezeEvent, "step" | "tensors" | "layers">[];
  readonly planned: Bytes;
  readonly live: Bytes;
  /** Bytes that are still live after everything was disposed of. */
  readonly left: number;
}

export interface TinyOptions {
  readonly steps?: number;
  readonly onStep?: (report: StepReport) => void;
  /** Default true. */
  readonly recover?: boolean;
}

/** A short run of SAFE with freezes, which is the same in browsers, workers and Node. */
export async function tinyRun(
  engine: Engine,
  { steps = 8, onStep, recover = true }: TinyOptions = {},
): Promise<TinyRun> {
  const bytesBefore = engine.ledger.liveBytes;
  let result: Omit<TinyRun, "left">;
  {
    using model = await initialiseModel(engine, CONFIG);
    const samples = Array.from({ length: 8 }, (_, i) => ({
      ids: Int32Array.of(1, 2 + i, 3 + 2 * i, 4),
      label: i % 2,
    }));
    using trainer = await SafeTrainer.create({
      model,
      adapter: lora({ rank: 2 }),
      data: new Batches(samples, { size: 4, shuffle: false }),
      steps,
      recover,
      dropout: false,
      optimizer: { learningRate: 1e-2 },
      safe: { every: 2, maxWarmup: 1, rampEnd: 2, targetFreezeFraction: 0.5 },
    });
    const { losses, freezes } = await trainer.train(onStep);
    result = {
      losses,
      freezes: freezes.map(({ step, tensors, layers }) => ({ step, tensors, layers })),
      planned: trainer.predictedBytes(),
      live: engine.ledger.live,
    };
  }
  return { ...result, left: engine.ledger.liveBytes - bytesBefore };
}

/** Evaluates code from a string. Returns "allowed" or the name of the error. */
export function evalOutcome(): string {
  try {
    // oxlint-disable-next-line typescript/no-implied-eval
    new Function("return 1");
    return "allowed";
  } catch (error) {
    return error instanceof Error ? error.name : String(error);
  }
}
