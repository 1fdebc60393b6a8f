import { createEngine } from "../../src/node/index";
import { linear } from "../../src/ops/linear";
import { loraLinear } from "../../src/ops/lora_linear";
import { meanSquaredError } from "../../src/ops/mean_squared_error";
import { relu } from "../../src/ops/relu";
import { Executor } from "../../src/run/executor";
import { gradientName } from "../../src/run/store";
import { plan } from "../../src/tape/plan";
import type { Plan } from "../../src/tape/plan";
import { Recorder } from "../../src/tape/tape";
import type { Value } from "../../src/tape/tape";
import type { Tensor } from "../../src/tensor";
import { adamW } from "../../src/optimizer/adamw";
import { stateName } from "../../src/optimizer/names";
import { UpdateCounts } from "../../src/optimizer/update-counts";
import { updatePlan } from "../../src/train/plans/optimizer-plan";
import { actAsBrowser } from "../support/browser";
import { ADAM, LAYERS, RANK, ROWS, transposed, values, WIDTH } from "./stack";
import type { Stack } from "./stack";

const OPTIMIZER = adamW({ learningRate: ADAM.learningRate, betas: [ADAM.beta1, ADAM.beta2], eps: ADAM.epsilon });

const liveNames = (live: number): string[] =>
  Array.from({ length: live }, (_, i) => LAYERS - live + i).flatMap((layer) => [`a ${layer}`, `b ${layer}`]);

/** The stack on this engine, with a tape, a plan and an executor as the trainer uses them. */
export async function safetapeStack(live: number): Promise<Stack> {
  const engine = await createEngine({ gpu: actAsBrowser() });
  const { limits } = engine.device;
  const initial = values();
  const store = new Map<string, Tensor>([["head", engine.tensor(initial.head, [1, WIDTH])]]);
  for (const [i, { w, a, b }] of initial.layers.entries()) {
    store.set(`w ${i}`, engine.tensor(w, [WIDTH, WIDTH]));
    store.set(`a ${i}`, engine.tensor(transposed(a, WIDTH, RANK), [RANK, WIDTH]));
    store.set(`b ${i}`, engine.tensor(transposed(b, RANK, WIDTH), [WIDTH, RANK]));
  }
  const step = stepPlan(new Set(liveNames(live)), limits);
  const { update, groups } = updatePlan(step.gradients, OPTIMIZER, limits);
  for (const [name, { shape }] of step.gradients) {
    const state = Object.keys(OPTIMIZER.state(shape, name)).map((slot) => stateName(slot, name));
    for (const key of [gradientName(name), ...state]) {
      store.set(key, engine.tensor(new Float32Array(RANK * WIDTH), shape));
    }
  }
  const executor = new Executor(engine.device);
  await executor.hold([step, update]);
  const leases = { lease: (name: string) => store.get(name)!.lease };
  const ones = { mask: new Int32Array(ROWS).fill(1), normalizer: Float32Array.of(1 / ROWS) };
  const inputs = { x: initial.x, targets: initial.targets, ...ones };
  const runStepPlan = async (): Promise<Float32Array> => (await executor.run(step, leases, inputs)).get("loss")!;
  const counts = new UpdateCounts();
  return {
    async step() {
      const loss = await runStepPlan();
      await executor.run(update, leases, { loss, ...counts.inputs(OPTIMIZER, groups) });
      counts.count(groups);
      return loss[0]!;
    },
    async gradients() {
      await runStepPlan();
      const read = async (name: string): Promise<Float32Array> => {
        const data = await store.get(gradientName(name))!.read();
        return name.startsWith("a") ? transposed(data, RANK, WIDTH) : transposed(data, WIDTH, RANK);
      };
      return Promise.all(liveNames(live).map(read));
    },
  };
}

/** Plans the loss and the gradients of the live adapters. */
function stepPlan(trainable: ReadonlySet<string>, limits: Parameters<typeof updatePlan>[2]): Plan {
  const recorder = new Recorder();
  let h: Value = recorder.input("x", [ROWS, WIDTH]);
  for (let i = 0; i < LAYERS; i++) {
    const w = recorder.parameter(`w ${i}`, [WIDTH, WIDTH]);
    const a = recorder.parameter(`a ${i}`, [RANK, WIDTH]);
    const b = recorder.parameter(`b ${i}`, [WIDTH, RANK]);
    h = recorder.apply(loraLinear, { x: h, w, a, b }, { layout: "in_out", scale: 1, dropout: 0, salt: i });
    h = recorder.apply(relu, { x: h }, {});
  }
  const head = recorder.parameter("head", [1, WIDTH]);
  const prediction = recorder.apply(linear, { x: h, w: head }, { layout: "out_in" });
  const targets = recorder.input("targets", [ROWS]);
  const [mask, normalizer] = [recorder.input("mask", [ROWS], "i32"), recorder.input("normalizer", [1])];
  const loss = recorder.apply(meanSquaredError, { prediction, targets, mask, normalizer }, {});
  return plan(recorder, { outputs: { loss }, loss, trainable, limits });
}
