import type { Adapter } from "../src/adapter/adapter";
import { lora, loraName } from "../src/adapter/lora";
import { Random } from "../src/base/random";
import { Batches } from "../src/data/batches";
import type { Engine } from "../src/engine";
import { initialiseModel } from "../src/io/load-model";
import type { LoadedModel } from "../src/io/load-model";
import type { LinearSite } from "../src/model/forward";
import { add } from "../src/ops/add";
import { linear } from "../src/ops/linear";
import { loraLinear } from "../src/ops/lora_linear";
import { scale } from "../src/ops/scale";
import { LOSS_GRADIENT, plan } from "../src/tape/plan";
import type { Plan } from "../src/tape/plan";
import { Recorder } from "../src/tape/tape";
import type { Value } from "../src/tape/tape";
import { Trainer } from "../src/train/trainer";
import { main } from "./support/main";
import { bertConfig } from "./support/model";
import { median, report, round } from "./support/results";
import { preparePlan } from "../src/testing/timing";
import { timeAlternately } from "./support/timing";
import type { RunTimes } from "./support/timing";

const [TOKENS, RANK, SCALE] = [512, 8, 2];
const PROJECTIONS = [
  ["BERT-base query", 768, 768],
  ["GPT-2 up", 768, 3072],
  ["GPT-2 down", 3072, 768],
] as const;

type Operands = Readonly<Record<"x" | "w" | "a" | "b", Value>> & { readonly bias: Value | undefined };
type Layout = LinearSite["layout"];
type Form = (recorder: Recorder, operands: Operands, layout: Layout, factor: number) => Value;

/** y = x W + bias + scale * (x A^T) B^T, as one op or as five separate ones. */
const FORMS: Readonly<Record<"fused" | "unfused", Form>> = {
  fused: (recorder, operands, layout, factor) =>
    recorder.apply(loraLinear, operands, { layout, scale: factor, dropout: 0, salt: 0 }),
  unfused: (recorder, { x, w, bias, a, b }, layout, factor) => {
    const base = recorder.apply(linear, { x, w, bias }, { layout });
    const down = recorder.apply(linear, { x, w: a }, { layout: "out_in" });
    const up = recorder.apply(linear, { x: down, w: b }, { layout: "out_in" });
    return recorder.apply(add, { a: base, b: recorder.apply(scale, { x: up }, { factor }) }, {});
  },
};

/** Compares LoRA's projection as one fused op with separate ops: by itself, and in complete training steps. */
export async function fused(engine: Engine): Promise<void> {
  const rows = [];
  for (const [name, from, to] of PROJECTIONS) {
    for (const isTrained of [false, true]) rows.push(await compareProjection(engine, name, [from, to], isTrained));
  }
  rows.push(await compareSteps(engine));
  await report(engine, "fused", rows);
}

async function compareProjection(
  engine: Engine,
  name: string,
  [from, to]: readonly [number, number],
  isTrained: boolean,
) {
  const shapes = { x: [TOKENS, from], w: [to, from], bias: [to], a: [RANK, from], b: [to, RANK] };
  const planOf = (form: Form): Plan => {
    const recorder = new Recorder();
    const operand = (slot: keyof typeof shapes): Value => recorder.parameter(slot, shapes[slot]);
    const operands = { x: operand("x"), w: operand("w"), bias: operand("bias"), a: operand("a"), b: operand("b") };
    const loss = form(recorder, operands, "out_in", SCALE);
    const { limits } = engine.device;
    const training = isTrained ? { loss, trainable: new Set(["x", "a", "b"]) } : {};
    return plan(recorder, { outputs: {}, effects: true, limits, ...training });
  };
  const inputs = isTrained ? { [LOSS_GRADIENT]: new Float32Array(TOKENS * to).fill(1) } : {};
  const plans = { fused: planOf(FORMS.fused), unfused: planOf(FORMS.unfused) };
  using fusedPlan = await preparePlan(engine.device, plans.fused, inputs);
  using unfusedPlan = await preparePlan(engine.device, plans.unfused, inputs);
  const times = await timeAlternately([fusedPlan.run, unfusedPlan.run], 15);
  const bytes = [plans.fused, plans.unfused].map(({ buffers }) =>
    buffers.reduce((sum, buffer) => sum + buffer.bytes, 0),
  );
  return rowOf(`${name}, ${isTrained ? "forward + backward" : "forward"}`, times, bytes);
}

/** Compares training steps of a BERT of 4 layers x 256 with LoRA on every projection. */
async function compareSteps(engine: Engine) {
  using model = await initialiseModel(engine, bertConfig(4, 256));
  const trainers = await Promise.all([makeTrainer(model, "fused"), makeTrainer(model, "unfused")]);
  const steps = trainers.map((trainer) => trainer.steps());
  const losses: number[][] = [[], []];
  const bytes: number[] = [];
  const step = (i: number) => async () => {
    const { value } = (await steps[i]?.next()) ?? {};
    if (!value) throw new Error("The run ended early.");
    losses[i]?.push(value.loss);
    bytes[i] = value.bytes.saved + value.bytes.scratch;
  };
  try {
    const times = await timeAlternately([step(0), step(1)], 9);
    checkClose(losses[0]!, losses[1]!);
    return rowOf("whole step, BERT 4 x 256, 8 x 64, all projections", times, bytes);
  } finally {
    for (const trainer of trainers) trainer.dispose();
  }
}

function makeTrainer(model: LoadedModel, form: keyof typeof FORMS): Promise<Trainer> {
  const random = new Random(1);
  const ids = (): Int32Array => Int32Array.from({ length: 64 }, () => 5 + random.below(900));
  const samples = Array.from({ length: 32 }, (_, i) => ({ ids: ids(), label: i % 2 }));
  const adapter = lora({ rank: RANK, alpha: SCALE * RANK, targets: "all-linear" });
  return Trainer.create({
    model,
    adapter: form === "fused" ? adapter : unfusedAdapter(adapter),
    data: new Batches(samples, { size: 8 }),
    steps: 100,
    schedule: { type: "constant" },
    optimizer: { learningRate: 1e-3 },
  });
}

/** A copy of a LoRA adapter that records its projections as separate ops. */
function unfusedAdapter(adapter: Adapter): Adapter {
  const targeted = new Set<string>();
  return {
    ...adapter,
    tensors: (model) => {
      const tensors = adapter.tensors(model);
      for (const { name } of tensors) targeted.add(name);
      return tensors;
    },
    linear: (forward, site) => {
      if (!targeted.has(loraName(site.name, "A"))) return undefined;
      const a = forward.recorder.parameter(loraName(site.name, "A"), [RANK, site.in]);
      const b = forward.recorder.parameter(loraName(site.name, "B"), [site.out, RANK]);
      return FORMS.unfused(
        forward.recorder,
        { x: site.x, w: site.weight, bias: site.biasValue, a, b },
        site.layout,
        SCALE,
      );
    },
  };
}

function checkClose(one: readonly number[], other: readonly number[]): void {
  const worst = Math.max(...one.map((loss, i) => Math.abs(loss - (other[i] ?? NaN))));
  if (!(worst < 1e-4)) throw new Error(`The losses with the fused op and with separate ops differ by ${worst}.`);
}

function rowOf(what: string, [fused, unfused]: readonly RunTimes[], [fusedBytes = NaN, unfusedBytes = NaN]: number[]) {
  if (!fused || !unfused) throw new Error("Two runs are compared.");
  const ratios = unfused.cpuMs.map((time, i) => time / fused.cpuMs[i]!);
  return {
    what,
    "fused ms": round(median(fused.wallMs)),
    "unfused ms": round(median(unfused.wallMs)),
    "unfused / fused, CPU time, median": round(median(ratios)),
    "of the fastest": round(Math.min(...unfused.cpuMs) / Math.min(...fused.cpuMs)),
    "fused buffers, bytes": fusedBytes,
    "unfused buffers, bytes": unfusedBytes,
  };
}

await main("fused", fused);
