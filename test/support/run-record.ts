import { Random } from "../../src/base/random";
import type { RunFreeze, RunRecord, RunScores } from "../../src/report/record";

interface RecordOptions {
  readonly steps: number;
  readonly layers: number;
  /** Step at which each layer's adapter freezes. */
  readonly freezes: Readonly<Record<number, number>>;
  /** Steps between scores. */
  readonly every: number;
}

const tensorsOf = (layer: number): string[] =>
  ["query", "value"].flatMap((module) =>
    ["A", "B"].map((which) => `bert.encoder.layer.${layer}.attention.self.${module}.lora_${which}.weight`),
  );

/** A compaction after step 60 of a made-up record. */
export const MADE_UP_COMPACTION = {
  step: 60,
  heads: 6,
  neurons: 128,
  returnedBytes: 6e6,
  returned: { weight: 3e6, state: 1e6, saved: 2e6, scratch: 0 },
  flops: { before: 1e9, after: 9e8 },
  bytes: { weight: 10e6, state: 2e6, saved: 3e6, scratch: 1e6 },
  hostBytes: 5e6,
};

/** A record of a run with SAFE, with made-up numbers: memory falls as layers freeze. */
export function madeUpRecord(options: Partial<RecordOptions> = {}): RunRecord {
  const { steps, layers, freezes, every }: RecordOptions = {
    steps: 120,
    layers: 6,
    freezes: { 0: 40, 1: 60, 3: 60, 2: 90 },
    every: 10,
    ...options,
  };
  const random = new Random(7);
  const frozenAt = (step: number): number => Object.values(freezes).filter((freezeStep) => freezeStep <= step).length;
  const bytesAt = (step: number) => {
    const live = layers - frozenAt(step);
    return { weight: 21e6, state: live * 4e5, saved: live * 3e6, scratch: 5e6 };
  };
  const rows = Array.from({ length: steps }, (_, i) => ({
    step: i + 1,
    epoch: (i + 1) / 40,
    loss: 0.7 * Math.exp(-i / 60) + 0.04 * Math.abs(random.normal()),
    learningRate: 1e-3 * (1 - i / steps),
    gradientNorm: 1,
    seconds: i === 0 ? 2 : 0.2,
    examplesPerSecond: 160,
    flops: 1e9,
    bytes: bytesAt(i + 1),
    planned: bytesAt(i + 1),
    horizon: 0,
    frozenTensors: 4 * frozenAt(i + 1),
    liveParameters: 1000 * (layers - frozenAt(i + 1)),
    rowsAtOnce: 32,
    recomputed: 0,
  }));
  const freezeSteps = [...new Set(Object.values(freezes))].sort((a, b) => a - b);
  const events = freezeSteps.map((step): RunFreeze => {
    const frozenLayers = Object.keys(freezes)
      .map(Number)
      .filter((layer) => freezes[layer] === step);
    const [before, after] = [bytesAt(step - 1), bytesAt(step)];
    const returned = { weight: 0, state: before.state - after.state, saved: before.saved - after.saved, scratch: 0 };
    return {
      step,
      layers: frozenLayers,
      tensors: frozenLayers.flatMap(tensorsOf),
      returned,
      bytes: after,
      returnedBytes: returned.state + returned.saved,
      flops: { before: 1e9, after: 8e8 },
    };
  });
  const scores = Array.from({ length: Math.floor(steps / every) }, (_, i): RunScores => {
    const values = Array.from({ length: layers }, (_unused, layer) => [layer, 0.002 * (layer + 1) * (i + 1)] as const);
    return { step: (i + 1) * every, kind: "importance", values: Object.fromEntries(values) };
  });
  return {
    format: 1,
    title: "SAFE on made-up data",
    created: "2020-01-01T00:00:00.000Z",
    task: "sst2",
    command: "safetape train --freeze safe",
    options: { freeze: "safe" },
    settings: { seed: 1 },
    model: { source: "models/base", family: "bert", layers, task: "sequence_classification" },
    gpu: { vendor: "nobody", architecture: "", device: "made up", description: "driver 1", isSoftware: true },
    versions: { safetape: "0.0.0", node: "v20" },
    metrics: { accuracy: 0.9, loss: 0.3 },
    evaluations: [{ step: steps / 2, metrics: { accuracy: 0.8, loss: 0.4 } }],
    peakBytes: 50e6,
    peak: bytesAt(0),
    seconds: 26,
    flops: steps * 1e9,
    stepsPerEpoch: 40,
    trained: Array.from({ length: layers }, (_, layer) => tensorsOf(layer)).flat(),
    trainedLayers: Array.from({ length: layers }, (_, layer) => tensorsOf(layer).map(() => layer)).flat(),
    parameters: { trained: 1000 * layers, averageLive: 4567.8 },
    steps: rows,
    freezes: events,
    scores,
    policy: { name: "safe" },
  };
}

/** A record of a run whose matrices freeze one by one, as with AFLoRA. */
export function madeUpMatrices(): RunRecord {
  const record = madeUpRecord({ freezes: {} });
  const frozen = record.trained.map((name, i) => ({ name, step: 20 + 3 * i }));
  const events = frozen.map(({ name, step }): RunFreeze => {
    const { bytes } = record.steps[step - 1]!;
    const returned = { weight: 0, state: 1000, saved: 0, scratch: 0 };
    const freeze = { step, layers: [], tensors: [name], returned, returnedBytes: 1000, bytes };
    return { ...freeze, flops: { before: 1e9, after: 9e8 } };
  });
  const scores = record.scores.map(({ step }): RunScores => {
    const live = frozen.filter((matrix) => matrix.step >= step);
    const values = live.map(({ name }, i) => [name, 1e-4 * (1 + (i % 7)) ** 3 * step] as const);
    return { step, kind: "sensitivity", values: Object.fromEntries(values) };
  });
  return { ...record, freezes: events, scores: scores.filter(({ values }) => Object.keys(values).length > 0) };
}
