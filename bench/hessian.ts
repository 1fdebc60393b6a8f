import { readFile } from "node:fs/promises";
import { hessianEigenvalues } from "../src/analysis/hessian";
import type { Engine } from "../src/engine";
import { goldenSubject } from "../test/support/golden-subject";
import { main } from "./support/main";
import { report, round } from "./support/results";

const EPSILONS = [1e-4, 3e-4, 1e-3, 3e-3, 1e-2];
const SEED = 0;

/**
 * Errors of Hessian eigenvalues computed by central differences of f32 gradients, against those of the exact Hessian that
 * PyTorch computed in float64 (`test/interop/hessian.py`). Small epsilons suffer from rounding, large ones from curvature.
 */
export async function hessian(engine: Engine): Promise<void> {
  // Written by test/interop/hessian.py.
  const exact = JSON.parse(await readFile("test/interop/hessian.json", "utf8")) as {
    batches: number;
    eigenvalues: number[];
  };
  const { subject, batches } = await goldenSubject(engine, exact.batches);
  const largest = Math.abs(exact.eigenvalues[0]!);
  const rows: Record<string, unknown>[] = [];
  for (const epsilon of EPSILONS) {
    const { eigenvalues, steps, asymmetry } = await hessianEigenvalues(subject, { batches, epsilon, seed: SEED });
    const errors = eigenvalues.map(({ value }, i) => Math.abs(value - exact.eigenvalues[i]!) / largest);
    const residuals = eigenvalues.map(({ residual }) => residual / largest);
    const [worstError, worstResidual] = [Math.max(...errors), Math.max(...residuals)].map(round);
    rows.push({ epsilon, worstError, worstResidual, asymmetry: round(asymmetry), products: steps, seed: SEED });
  }
  subject.model.dispose();
  await report(engine, "hessian-error", rows);
}

await main("hessian", hessian);
