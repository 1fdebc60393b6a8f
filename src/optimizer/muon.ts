import { ConfigError } from "../base/errors";
import { occurs } from "../base/regexp";
import type { Shape } from "../base/shape";
import { muon as muonOp } from "../ops/muon";
import { muonMomentum } from "../ops/muon_momentum";
import { newtonSchulz } from "../ops/newton_schulz";
import { squareSum } from "../ops/square_sum";
import { adamW } from "./adamw";
import type { OptimizerOptions } from "./adamw";
import type { Optimizer } from "./optimizer";
import { checkSettings } from "./settings";

/**
 * Muon (Jordan et al. 2024, https://kellerjordan.github.io/posts/muon) for matrices, and AdamW for all other tensors, as its authors use
 * it. Decoupled weight decay; `betas` and `eps` are AdamW's. `learningRate` is 1e-3 by default, and is that of both.
 */
export interface MuonOptions extends OptimizerOptions {
  /** Share of the mean of gradients that stays from step to step, below 1. Default 0.95. */
  readonly momentum?: number;
  /** Nesterov's momentum. Default true. */
  readonly nesterov?: boolean;
  /**
   * Factor of the learning rate for a matrix of R rows and C columns. "adamw": 0.2 sqrt(max(R, C)), which makes updates as large as
   * AdamW's, so that its rates and decays serve both (Liu et al. 2025, arXiv:2502.16982). "original": sqrt(max(1, R / C)), as Jordan and
   * PyTorch have it, whose rates are some 20 times larger. Default "adamw".
   */
  readonly scale?: "adamw" | "original";
  /** Matrices that AdamW updates nevertheless, by their names. Muon's authors say embeddings and the last layer. Default none. */
  readonly adamW?: RegExp;
}

const SCALES: Readonly<Record<string, (rows: number, columns: number) => number>> = {
  adamw: (rows, columns) => 0.2 * Math.sqrt(Math.max(rows, columns)),
  original: (rows, columns) => Math.sqrt(Math.max(1, rows / columns)),
};

/**
 * Muon: for a matrix, a state of its size; five Newton-Schulz iterations a step.
 * @throws ConfigError for negative or infinite values, momentum or betas that are not below 1, and an unknown scale.
 */
export function muon({
  momentum = 0.95,
  nesterov = true,
  scale = "adamw",
  adamW: byAdamW,
  ...options
}: MuonOptions = {}): Optimizer {
  const others = adamW(options);
  const settings = { ...others.settings, momentum, nesterov, scale, ...(byAdamW && { adamW: byAdamW }) };
  checkSettings(settings, {}, { momentum });
  const scaleOf = SCALES[scale];
  if (!scaleOf) throw new ConfigError(`Muon has scale ${JSON.stringify(scale)}.`, "Give adamw or original.");
  const isMuon = (shape: Shape, name: string): boolean => shape.length === 2 && !(byAdamW && occurs(byAdamW, name));
  return {
    ...others,
    name: "muon",
    settings,
    isElementwise: false,
    state: (shape, name) => (isMuon(shape, name) ? { momentum: shape } : others.state(shape, name)),
    update(recorder, tensors, tensor) {
      const { p, g, state, ...judged } = tensors;
      if (!isMuon(p.shape, tensor.name)) {
        others.update(recorder, tensors, tensor);
        return;
      }
      const [rows = 1, columns = 1] = p.shape;
      const x = recorder.apply(muonMomentum, { m: state["momentum"]!, g, ...judged }, { momentum, nesterov });
      const squares = recorder.apply(squareSum, { x }, {});
      const direction = recorder.apply(newtonSchulz, { x, squares }, {});
      const attributes = { weightDecay: tensor.weightDecay, scale: scaleOf(rows, columns) };
      recorder.record(muonOp, { p, g: direction, ...judged }, attributes);
    },
  };
}
