// What a run will need, before anything is loaded.
import { makeAdapter } from "../../../src/adapter/make";
import type { Adapter } from "../../../src/adapter/adapter";
import { never } from "../../../src/freeze/never";
import type { Policy } from "../../../src/freeze/policy";
import { safe } from "../../../src/freeze/safe";
import { fitMemoryBudget } from "../../../src/train/estimate/fit-memory-budget";
import { plan } from "../../../src/train/estimate/predict";
import type { Prediction, PredictOptions } from "../../../src/train/estimate/predict";
import type { TrainerOptions } from "../../../src/train/options";
import type { KeptPart, PlanFacts, PlanForm } from "../protocol";
import type { StudioData } from "./data";

/** Alpha over rank: the scale of the update, as in the papers' settings. */
const SCALE = 4;
/** Points at which the memory after a freeze is shown. */
const FREEZES = 5;
/** Tokens of a row at most in a first plan: attention's memory grows with them. */
const USUAL_LENGTH = 512;
/** Parameters below which a model learns at the rates of the example's. */
const SMALL = 20e6;

/** Options of the adapter that the form makes. */
export const adapterOptions = ({ rank, targets }: PlanForm) => ({
  rank,
  alpha: SCALE * rank,
  dropout: 0.05,
  ...(targets === "all-linear" && { targets }),
});

export const adapterOf = (form: PlanForm): Adapter => makeAdapter({ kind: form.adapter, ...adapterOptions(form) });

export const policyOf = ({ freeze }: PlanForm): Policy => (freeze === "safe" ? safe() : never());

/** Settings of the trainer that the form makes. */
export function trainerSettings(
  form: PlanForm,
): Pick<TrainerOptions, "epochs" | "seed" | "optimizer" | "schedule" | "memory"> {
  const { epochs, seed, learningRate, activations, recompute, microBatch } = form;
  return {
    epochs,
    seed,
    optimizer: { learningRate, maxGradNorm: 1 },
    schedule: { type: "linear", warmupRatio: 0.06 },
    memory: { activations, recompute, ...(microBatch > 0 && { microBatch }) },
  };
}

/** A form to begin with: small enough for most GPUs. */
export function firstForm({ facts, model }: StudioData): PlanForm {
  const parameters = model.parameters.reduce((sum, { shape }) => sum + shape.reduce((a, b) => a * b, 1), 0);
  const isSmall = parameters < SMALL;
  return {
    adapter: "lora",
    rank: isSmall ? 4 : 8,
    targets: "usual",
    freeze: "safe",
    batch: Math.min(isSmall ? 32 : 8, facts.train),
    length: model.image ? model.maxLength : Math.min(facts.mostLength, Math.max(facts.usual, 8), USUAL_LENGTH),
    epochs: isSmall ? 2 : 3,
    learningRate: isSmall ? 2e-3 : 5e-4,
    weights: "f32",
    activations: "f32",
    recompute: "none",
    microBatch: 0,
    seed: 1,
  };
}

function workloadOf(form: PlanForm, { model }: StudioData): Omit<PredictOptions, "batch" | "weights" | "memory"> {
  return {
    config: model.config,
    adapter: adapterOf(form),
    ...(!model.image && { length: form.length }),
    optimizer: trainerSettings(form).optimizer!,
  };
}

/** Steps of a run. */
export const stepsOf = ({ epochs, batch, length }: PlanForm, data: StudioData): number =>
  Math.max(1, Math.round(epochs * Math.ceil(data.countAt(length) / batch)));

/**
 * What a form needs.
 * @param rate floating-point operations of a second; undefined before they were measured.
 * @throws ConfigError, ShapeError or DataError for a form that the model does not take.
 */
export function planOf(form: PlanForm, data: StudioData, rate: number | undefined): PlanFacts {
  const { weights, activations, recompute, batch, microBatch } = form;
  const atOnce = microBatch > 0 ? Math.min(microBatch, batch) : batch;
  const workload = { ...workloadOf(form, data), batch: atOnce, weights, memory: { activations, recompute } };
  const prediction = plan(workload);
  const { layers } = prediction;
  const points = [...new Set(Array.from({ length: FREEZES }, (_, i) => Math.round((i * layers) / (FREEZES - 1))))];
  const frozen = points.map((below) => ({
    below,
    peakBytes: below === 0 ? prediction.peakBytes : plan({ ...workload, freezeBelow: below }).peakBytes,
  }));
  const { peakBytes, bytes, peakAt, trainableParameters: trainable } = prediction;
  const totalSteps = stepsOf(form, data);
  const flops = (prediction.flops.forward + prediction.flops.recompute + prediction.flops.backward) * (batch / atOnce);
  return {
    peakBytes,
    bytes,
    peakAt,
    trainable,
    parts: partsOf(prediction),
    frozen,
    totalSteps,
    flops,
    seconds: rate === undefined ? undefined : (totalSteps * flops) / rate,
  };
}

/** What is kept, by layer: the beginning of a module's path up to its first number. */
function partsOf({ explanation }: Prediction): KeptPart[] {
  const parts = new Map<string, { bytes: number; values: KeptPart["values"][number][] }>();
  for (const { label, value, bytes, keptFor } of explanation.kept) {
    const name = /^(.*?\.\d+)(?:\.|$)/.exec(label)?.[1] ?? "outside the layers";
    const part = parts.get(name) ?? { bytes: 0, values: [] };
    part.bytes += bytes;
    part.values.push({ what: `${label}: ${value}`, bytes, keptFor });
    parts.set(name, part);
  }
  return [...parts].map(([name, part]) => ({ name, ...part }));
}

/** The form that fits into so many bytes. @throws MemoryBudgetError with the smallest number that would do. */
export function fittedForm(form: PlanForm, data: StudioData, budget: number): PlanForm {
  const { weights, memory, prediction } = fitMemoryBudget({ ...workloadOf(form, data), batch: form.batch }, budget);
  const sections = prediction.recomputed;
  const recompute =
    sections.length === 0 ? "none" : sections.some((section) => section.startsWith("layer")) ? "layers" : "mlp";
  const microBatch = Number(memory.microBatch);
  return {
    ...form,
    weights,
    activations: memory.activations,
    recompute,
    microBatch: microBatch >= form.batch ? 0 : microBatch,
  };
}
