// Runs the cases of ops on the browser's WebGPU. The published bundle does not contain the cases, so this imports the sources.
import { openDevice } from "../../../src/gpu/device";
import type { Device } from "../../../src/gpu/device";
import { OPS } from "../../../src/ops/index";
import { differentiable, forwardErrors, gradientErrors } from "../../support/op-checks";
import { caseInputs, randomOutputGradient, runCase } from "../../support/op-runs";

let opened: Promise<Device> | undefined;

export interface CaseErrors {
  readonly op: string;
  readonly name: string;
  /** The case's own limit for forward errors, if it has one. */
  readonly tolerance: number | undefined;
  readonly forward: readonly (readonly [string, number])[];
  readonly gradients: readonly (readonly [string, number])[];
}

/** Runs one case, forward and all gradients, in one plan. */
async function run(opName: string, name: string): Promise<CaseErrors> {
  const device = await (opened ??= openDevice(navigator.gpu));
  const op = OPS.find((candidate) => candidate.name === opName);
  const test = op?.cases.find((candidate) => candidate.name === name);
  if (!op || !test) throw new Error(`The op ${opName} has no case ${name}.`);
  const inputs = caseInputs(op, test);
  const trainable = differentiable(op, test);
  const hasGradients = op.gradients.length > 0 && trainable.length > 0;
  const dy = hasGradients ? randomOutputGradient(op, test, inputs) : new Float32Array();
  const results = await runCase(device, op, test, inputs, hasGradients ? { trainable, dy } : {});
  const forward = forwardErrors(op, test, results, inputs);
  const gradients = hasGradients ? gradientErrors(op, test, results, inputs, dy) : [];
  return { op: opName, name, tolerance: test.tolerance, forward, gradients };
}

const liveBytes = async (): Promise<number> => (await opened)?.pool.ledger.liveBytes ?? NaN;

const page = { run, liveBytes };
export type OpsPage = typeof page;
Object.assign(globalThis, { page });
