import { ConfigError } from "../base/errors";
import { columns, rows } from "../base/shape";
import type { Shape } from "../base/shape";
import { adafactor as matrixOp } from "../ops/adafactor";
import { adafactorVector as vectorOp } from "../ops/adafactor_vector";
import { ADAFACTOR_HYPER_SIZE } from "../ops/shared/adafactor";
import type { Optimizer } from "./optimizer";
import { checkSettings, commonSettings } from "./settings";
import type { CommonOptions } from "./settings";

/**
 * Adafactor (Shazeer and Stern 2018) by the formulas of torch.optim.Adafactor: no first moment, second moments of matrices kept as
 * means of rows and columns, changes clipped by their root mean square, decoupled weight decay. `learningRate` is 1e-2 by default.
 * A tensor of more axes counts as a matrix of its last axis's columns.
 */
export interface AdafactorOptions extends CommonOptions {
  /**
   * Whether steps are relative to a parameter's root mean square, as PyTorch's always are. A LoRA's B begins at 0, and then its
   * steps are as small as eps[1] allows. Default false, which is transformers' advice for fine-tuning (`scale_parameter=False`).
   */
  readonly scaleParameter?: boolean;
  /** Whether the rate is at most 1 / sqrt(step), as PyTorch's always is. Default false. */
  readonly relativeStep?: boolean;
  /** Exponent of the step in the rate of second moments, step ** decayRate; from -1 to 0. Default -0.8. */
  readonly decayRate?: number;
  /** Root mean square of a change from which it is scaled down. Default 1. */
  readonly clipThreshold?: number;
  /** Lower bounds of second moments, and of the parameter's root mean square. Default [1e-30, 1e-3], as in the paper. */
  readonly eps?: readonly [number, number];
}

const isMatrix = (shape: Shape): boolean => shape.length > 1;

/**
 * Adafactor: for a matrix of R rows and C columns, a state of R + C numbers.
 * @throws ConfigError for negative or infinite values, a clipThreshold of 0, and a decayRate outside -1 to 0.
 */
export function adafactor({
  scaleParameter = false,
  relativeStep = false,
  decayRate = -0.8,
  clipThreshold = 1,
  eps = [1e-30, 1e-3],
  ...common
}: AdafactorOptions = {}): Optimizer {
  const settings = { ...commonSettings(common, 1e-2), scaleParameter, relativeStep, decayRate, clipThreshold, eps };
  checkSettings(settings, { eps, clipThreshold });
  if (!(decayRate >= -1 && decayRate <= 0 && clipThreshold > 0)) {
    throw new ConfigError(
      `Adafactor has decayRate ${decayRate}, clipThreshold ${clipThreshold}.`,
      "Give a decayRate from -1 to 0, and a clipThreshold above 0.",
    );
  }
  return {
    name: "adafactor",
    settings,
    isElementwise: false,
    state: (shape) =>
      isMatrix(shape) ? { "row moment": [rows(shape)], "column moment": [columns(shape)] } : { "second moment": shape },
    hyperSize: ADAFACTOR_HYPER_SIZE,
    hyper: ({ learningRate, step }) =>
      Float32Array.of(
        relativeStep ? Math.min(learningRate, 1 / Math.sqrt(step)) : learningRate,
        step ** decayRate,
        settings.maxGradNorm,
        learningRate,
      ),
    update(recorder, { state, ...tensors }, { weightDecay }) {
      const [eps1, eps2] = eps;
      const attributes = { weightDecay, eps1, eps2, threshold: clipThreshold, scaleParameter };
      if (isMatrix(tensors.p.shape)) {
        const moments = { rows: state["row moment"]!, columns: state["column moment"]! };
        recorder.record(matrixOp, { ...tensors, ...moments }, attributes);
      } else recorder.record(vectorOp, { ...tensors, v: state["second moment"]! }, attributes);
    },
  };
}
