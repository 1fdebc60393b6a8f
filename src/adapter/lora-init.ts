import { ConfigError } from "../base/errors";
import type { Random } from "../base/random";
import type { Matrix } from "../base/singular";
import { checkInit, checkStoredInit, isPartOfWeights } from "../io/lora-base";
import { rankOf, scaleOf } from "../io/peft-lora";
import type { LoraConfig } from "../io/peft-lora";
import { entryOf } from "../io/safetensors";
import type { FloatTensor } from "../io/safetensors";
import type { Forward, LinearSite } from "../model/forward";
import type { Model, Projection } from "../model/model";
import { concat } from "../ops/concat";
import { linear } from "../ops/linear";
import { scaledAdd } from "../ops/scaled_add";
import type { Value } from "../tape/tape";
import type { Adapter, AdapterFile, LowRankUpdate, Tensors } from "./adapter";
import { constant, normal, uniform } from "./initial";
import type { NewTensor } from "./initial";
import { configOf, loraFromConfig, loraName, PLAIN, updateOf } from "./lora";
import type { LoraForm, LoraOptions } from "./lora";
import { lowRankLinear } from "./low-rank";
import type { TracedUpdate } from "./low-rank";
import type { LayerChoice } from "./targets";

/**
 * First values of A and B, as PEFT's `init_lora_weights` names them. With s the update's scale:
 *
 * - true: A uniform in +-1 / sqrt(in), B 0 (Kaiming, as in Hu et al. 2021).
 * - false: both uniform, B in +-1 / sqrt(rank): the first step begins with another model than the loaded one.
 * - "gaussian": A normal with deviation 1 / rank, B 0.
 * - "orthogonal": neither is 0, but B A is, since they share an orthogonal matrix's even and odd rows. Ranks are even.
 * - "pissa" (Meng et al. 2024, eq. 2 to 4): the largest singular triplets of W, B = U sqrt(S / s) and A = sqrt(S / s) V^T. The model
 *   begins as it was loaded, since s times the first B A is taken out of W.
 * - "pissa_niter_N": the same by a randomised decomposition with N rounds, which is faster for wide weights.
 * - "olora" (Büyükakyüz 2024): the first columns of Q and rows of R of W = Q R, in the same way.
 */
export type LoraInit = boolean | "gaussian" | "orthogonal" | "pissa" | `pissa_niter_${number}` | "olora";

/**
 * LoRA (Hu et al. 2021, eq. 3): y = x W + bias + scale * (drop(x) A^T) B^T for every target, with A [r, in] and B [out, r], whose
 * first values `init` says.
 *
 * PiSSA and OLoRA train the largest part of W. The loaded weights stay as they are: y = x W + bias + scale * ((x A^T) B^T - (x A0^T) B0^T)
 * with the first values A0 and B0, which the run keeps as well (as many numbers again, fixed). A step keeps x for A, and x A^T and
 * x A0^T. Where LoRA's dropout is on, it acts on the first product alone, which keeps drop(x).
 * @throws FileFormatError for a rank, scale or dropout that makes no sense, ConfigError for `addBiases` where none are trained, and for an
 * `init` that is not known or does not fit.
 */
export function lora(options: LoraOptions = {}): Adapter {
  return initialisedLora(configOf(options), "the LoRA configuration", { layers: options.layers });
}

/** A LoRA or another form of it by its adapter_config.json, with the first values that `init_lora_weights` names. */
export function initialisedLora(
  config: LoraConfig,
  where: string,
  { layers, form = PLAIN, isFile = false }: InitialisedOptions = {},
): Adapter {
  const { init_lora_weights: init } = config;
  if (init === true) return loraFromConfig(config, layers, form);
  (isFile ? checkStoredInit : checkInit)(init, where);
  const isResidual = isPartOfWeights(init);
  const adapter = loraFromConfig(config, layers, isResidual ? residualForm(config, form) : startForm(config, form));
  return isResidual ? withFiles(adapter, config) : adapter;
}

export interface InitialisedOptions {
  readonly layers?: LayerChoice | undefined;
  readonly form?: LoraForm;
  /** Whether the configuration is that of a file, so that A and B have been trained. */
  readonly isFile?: boolean;
}

/** A form whose A and B begin with other values, on the weights as they are. */
function startForm(config: LoraConfig, form: LoraForm): LoraForm {
  const { init_lora_weights: init } = config;
  return {
    ...form,
    tensorsOf(target, [a, b]) {
      const rank = rankOf(config, target.name);
      if (init === false) return form.tensorsOf(target, [a, uniform(b.name, b.shape, 1 / Math.sqrt(rank))]);
      if (init === "gaussian") return form.tensorsOf(target, [normal(a.name, a.shape, 1 / rank), b]);
      if (init === "orthogonal") return form.tensorsOf(target, orthogonalFactors(target, [a, b], rank));
      return form.tensorsOf(target, [a, b]);
    },
  };
}

/** A = (X Q_odd)^T / 10 and B = Y^T Q_even / 10 with normal X [in, r / 2], Y [r / 2, out] and the rows of an orthogonal Q [r, r]. */
function orthogonalFactors(
  { name, in: inSize, out }: Projection,
  [a, b]: readonly [NewTensor, NewTensor],
  rank: number,
): [NewTensor, NewTensor] {
  if (rank % 2 !== 0) {
    throw new ConfigError(`${name} has rank ${rank}; an orthogonal LoRA takes an even one.`, "Give another rank.");
  }
  let drawn: Promise<readonly Float64Array[]> | undefined;
  const half = (first: number, size: number, isTurned: boolean): NonNullable<NewTensor["initialFrom"]> => ({
    weight: `${name}.weight`,
    async values(_read, random) {
      const q = await (drawn ??= orthogonalMatrix(rank, random));
      const values = new Float32Array(rank * size);
      for (let i = 0; i < size; i++) {
        const x = Array.from({ length: rank / 2 }, () => random.normal() / 10);
        for (let k = 0; k < rank; k++) {
          const value = x.reduce((sum, each, row) => sum + each * q[2 * row + first]![k]!, 0);
          values[isTurned ? k * size + i : i * rank + k] = value;
        }
      }
      return values;
    },
  });
  return [
    { ...a, initialFrom: half(0, inSize, true) },
    { ...b, initialFrom: half(1, out, false) },
  ];
}

async function orthogonalMatrix(size: number, random: Random): Promise<readonly Float64Array[]> {
  const { leadingQr } = await import("../base/singular");
  const data = Float64Array.from({ length: size ** 2 }, () => random.normal());
  return leadingQr({ rows: size, columns: size, data }, size).q;
}

/** A form that trains a part of W in place of an addition to it: its update is scale * (B A - B0 A0). */
function residualForm(config: LoraConfig, form: LoraForm): LoraForm {
  return {
    ...form,
    tensorsOf(target, [a, b]) {
      const factors = decomposed(config, target);
      const [residualA, residualB] = (["A", "B"] as const).map((part) => residualName(target.name, part));
      return [
        ...form.tensorsOf(target, [
          { ...constant(a.name, a.shape, 0), initialFrom: factors("a") },
          { ...constant(b.name, b.shape, 0), initialFrom: factors("b") },
        ]),
        { ...constant(residualA!, a.shape, 0), isFixed: true, initialFrom: factors("a") },
        { ...constant(residualB!, b.shape, 0), isFixed: true, initialFrom: factors("minusB") },
      ];
    },
    linear(forward, site, update) {
      const { recorder } = forward;
      const a = recorder.parameter(residualName(site.name, "A"), update.a.shape);
      const b = recorder.parameter(residualName(site.name, "B"), update.b.shape);
      if (forward.isTraining && update.dropout > 0) return droppedLinear(forward, site, update, { a, b }, form.kind);
      const joined = (axis: number, values: readonly [Value, Value]): Value =>
        forward.once(`factors along axis ${axis} of ${site.name}`, () =>
          recorder.apply(concat, { x0: values[0], x1: values[1] }, { axis }),
        );
      return form.linear(forward, site, { ...update, a: joined(0, [update.a, a]), b: joined(1, [update.b, b]) });
    },
    updateOf: residualUpdate,
  };
}

/** y = x (W - s B0 A0) + bias + s * (drop(x) A^T) B^T. @param residual A0 and -B0. */
function droppedLinear(
  forward: Forward,
  site: LinearSite,
  { a, b, scale, dropout }: TracedUpdate,
  residual: { readonly a: Value; readonly b: Value },
  kind: string,
): Value {
  if (kind !== PLAIN.kind) {
    throw new ConfigError(
      `${kind} with dropout ${dropout} is not combined with PiSSA and OLoRA.`,
      "Leave dropout out: dropping the largest part of a weight is no regularisation.",
    );
  }
  const { recorder } = forward;
  const base = lowRankLinear(forward, site, { ...residual, scale, dropout: 0 });
  const layout = "out_in";
  const down = recorder.apply(linear, { x: forward.dropout(site.x, dropout), w: a, bias: undefined }, { layout });
  const up = recorder.apply(linear, { x: down, w: b, bias: undefined }, { layout });
  return recorder.apply(scaledAdd, { a: up, b: base }, { factor: scale });
}

/** The update of a module: scale * B A, without that of the first values where the tensors have them. */
export function residualUpdate(config: LoraConfig, module: string, tensors: Tensors): LowRankUpdate {
  const update = updateOf(config, module, tensors);
  if (!tensors.has(residualName(module, "A"))) return update;
  const { a, b } = joinedFactors(module, tensors);
  return { ...update, a, b };
}

/** [A; A0] [2 r, in] and [B, -B0] [out, 2 r]. */
function joinedFactors(module: string, tensors: Tensors): { readonly a: FloatTensor; readonly b: FloatTensor } {
  const tensor = (name: string): FloatTensor => entryOf(tensors, name, "the adapter");
  const [a, b] = [tensor(loraName(module, "A")), tensor(loraName(module, "B"))];
  const [a0, b0] = [tensor(residualName(module, "A")), tensor(residualName(module, "B"))];
  const [rank = 0, inSize = 0] = a.shape;
  const [out = 0] = b.shape;
  const joinedA = new Float32Array(2 * rank * inSize);
  joinedA.set(a.data);
  joinedA.set(a0.data, rank * inSize);
  const joinedB = Float32Array.from({ length: 2 * rank * out }, (_, i) => {
    const [row, column] = [Math.floor(i / (2 * rank)), i % (2 * rank)];
    return column < rank ? b.data[row * rank + column]! : b0.data[row * rank + column - rank]!;
  });
  return { a: { shape: [2 * rank, inSize], data: joinedA }, b: { shape: [out, 2 * rank], data: joinedB } };
}

/** The parts of a module's decomposition, each as the source of a tensor's first values. It is computed once. */
function decomposed(
  config: LoraConfig,
  { name, in: inSize, out, layout }: Projection,
): (part: "a" | "b" | "minusB") => NonNullable<NewTensor["initialFrom"]> {
  const [rank, scale] = [rankOf(config, name), scaleOf(config, name)];
  const { init_lora_weights: init } = config;
  if (rank > Math.min(inSize, out) || !(scale > 0)) {
    throw new ConfigError(
      `${name} has rank ${rank} and scale ${scale}; ${String(init)} takes apart a weight [${out}, ${inSize}].`,
      `Give a rank up to ${Math.min(inSize, out)}, and an alpha above 0.`,
    );
  }
  const isTransposed = layout === "in_out";
  let factors: Promise<Record<"a" | "b", Float32Array>> | undefined;
  return (part) => ({
    weight: `${name}.weight`,
    async values(read, random) {
      factors ??= read().then(({ data }) => {
        const matrix: Matrix = isTransposed
          ? { rows: inSize, columns: out, data }
          : { rows: out, columns: inSize, data };
        return factorsOf(matrix, { init: String(init), rank, scale, isTransposed, random });
      });
      const { a, b } = await factors;
      if (part === "minusB") return b.map((value) => -value);
      return (part === "a" ? a : b).slice();
    },
  });
}

interface Decomposition {
  readonly init: string;
  readonly rank: number;
  readonly scale: number;
  readonly isTransposed: boolean;
  readonly random: Random;
}

/** A and B of a weight W [out, in], or W^T if transposed. */
async function factorsOf(
  matrix: Matrix,
  { init, rank, scale, isTransposed, random }: Decomposition,
): Promise<Record<"a" | "b", Float32Array>> {
  const { largestSingular, leadingQr, randomisedSingular, transposed } = await import("../base/singular");
  if (init === "olora") {
    const { q, r } = leadingQr(isTransposed ? transposed(matrix) : matrix, rank);
    return { a: rowsOf(r), b: columnsOf(q) };
  }
  const [, rounds] = /^pissa_niter_(\d+)$/.exec(init) ?? [];
  const { values, left, right } =
    rounds === undefined
      ? await largestSingular(matrix, rank)
      : await randomisedSingular(matrix, rank, Number(rounds), random);
  const scaled = (vectors: readonly Float64Array[]): Float64Array[] =>
    vectors.map((vector, k) => vector.map((x) => x * Math.sqrt(values[k]! / scale)));
  const [outputs, inputs] = isTransposed ? [right, left] : [left, right];
  return { a: rowsOf(scaled(inputs)), b: columnsOf(scaled(outputs)) };
}

/** Vectors as the rows of a matrix. */
function rowsOf(vectors: readonly Float64Array[]): Float32Array {
  const [first] = vectors;
  const values = new Float32Array(vectors.length * (first?.length ?? 0));
  vectors.forEach((vector, i) => values.set(vector, i * vector.length));
  return values;
}

/** Vectors as the columns of a matrix. */
function columnsOf(vectors: readonly Float64Array[]): Float32Array {
  const width = vectors.length;
  const length = (vectors[0]?.length ?? 0) * width;
  return Float32Array.from({ length }, (_, i) => vectors[i % width]![Math.floor(i / width)]!);
}

/**
 * Files as PEFT has them: A and B for a base that the loader takes the same part out of, or, where a loader could not, a LoRA of twice
 * the rank on the model as it was loaded (PEFT's `path_initial_model_for_weight_conversion`).
 */
function withFiles(adapter: Adapter, config: LoraConfig): Adapter {
  const portableFile = (model: Model, tensors: Tensors): AdapterFile => {
    const modules = [...tensors.keys()].flatMap((name) => RESIDUAL_A.exec(name)?.[1] ?? []);
    const joined = new Map([...tensors].filter(([name]) => !isResidual(name)));
    for (const module of modules) {
      const { a, b } = joinedFactors(module, tensors);
      joined.set(loraName(module, "A"), a).set(loraName(module, "B"), b);
    }
    const file = adapter.toFile!(model, joined);
    return { ...file, config: { ...file.config, ...doubled(config) } };
  };
  return {
    ...adapter,
    portableFile,
    toFile(model, tensors) {
      const modules = new Set(adapter.tensors(model).flatMap(({ name }) => RESIDUAL_A.exec(name)?.[1] ?? []));
      if (!isRepeated(config, model, modules)) return portableFile(model, tensors);
      return adapter.toFile!(model, new Map([...tensors].filter(([name]) => !isResidual(name))));
    },
  };
}

/**
 * Whether PEFT takes the same part out of the base when it loads the file: not where random numbers decide, nor of quantised
 * weights, and of a weight that is stored [in, out] PEFT's OLoRA takes another one.
 */
function isRepeated({ init_lora_weights: init }: LoraConfig, model: Model, modules: ReadonlySet<string>): boolean {
  if (init !== "pissa" && init !== "olora") return false;
  const packed = new Set(model.parameters.flatMap(({ name, dtype }) => (dtype && !FLOATS.includes(dtype) ? name : [])));
  return model.projections.every(
    ({ name, layout }) =>
      !modules.has(name) || !(packed.has(`${name}.weight`) || (init === "olora" && layout === "in_out")),
  );
}

const FLOATS: readonly string[] = ["f32", "f16", "bf16"];

/** Twice the rank with the same scales, on a base that nothing is taken out of. */
function doubled({
  r,
  lora_alpha: alpha,
  rank_pattern: ranks,
  alpha_pattern: alphas,
  use_rslora: isStabilised,
}: LoraConfig) {
  const factor = isStabilised ? Math.SQRT2 : 2;
  const times = (pattern: Readonly<Record<string, number>>, by: number): Record<string, number> =>
    Object.fromEntries(Object.entries(pattern).map(([key, value]) => [key, value * by]));
  return {
    init_lora_weights: true,
    r: 2 * r,
    lora_alpha: factor * alpha,
    rank_pattern: times(ranks, 2),
    alpha_pattern: times(alphas, factor),
  };
}

const RESIDUAL_A = /^(.*)\.residual_lora_A\.weight$/;
const isResidual = (name: string): boolean => /\.residual_lora_[AB]\.weight$/.test(name);

/** Name of a module's A0 [r, in] or -B0 [out, r], whose product with the scale is added to W. */
const residualName = (module: string, part: "A" | "B"): string => `${module}.residual_lora_${part}.weight`;
