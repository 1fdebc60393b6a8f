// The ops' own cases on the browser's WebGPU. Their cases are no part of what is published: here are the sources.
import { openDevice } from "../../../src/gpu/device";
import type { Device } from "../../../src/gpu/device";
import { OPS } from "../../../src/ops/index";
import { differentiable, forwardErrors, gradientErrors } from "../../support/op-checks";
import { caseInputs, randomOutput, runCase } from "../../support/op-runs";

let opened: Promise<Device> | undefined;

export interface CaseErrors {
  readonly op: string;
  readonly name: string;
  /** Limit of the forward errors, where the case has one of its own. */
  readonly tolerance: number | undefined;
  readonly forward: readonly (readonly [string, number])[];
  readonly gradients: readonly (readonly [string, number])[];
}

/** One case, forward and all gradients in one plan. */
async function run(opName: string, name: string): Promise<CaseErrors> {
  const device = await (opened ??= openDevice(navigator.gpu));
  const op = OPS.find((candidate) => candidate.name === opName);
  const test = op?.cases.find((candidate) => candidate.name === name);
  if (!op || !test) throw new Error(`There is no case ${name} of ${opName}.`);
  const inputs = caseInputs(op, test);
  const trainable = differentiable(op, test);
  const isLearnt = op.gradients.length > 0 && trainable.length > 0;
  const dy = isLearnt ? randomOutput(op, test, inputs) : new Float32Array();
  const told = await runCase(device, op, test, inputs, isLearnt ? { trainable, dy } : {});
  const forward = forwardErrors(op, test, told, inputs);
  const gradients = isLearnt ? gradientErrors(op, test, told, inputs, dy) : [];
  return { op: opName, name, tolerance: test.tolerance, forward, gradients };
}

const left = async (): Promise<number> => (await opened)?.pool.ledger.liveBytes ?? NaN;

const page = { run, left };
export type OpsPage = typeof page;
Object.assign(globalThis, { page });
