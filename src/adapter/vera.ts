import * as v from "valibot";
import { checkSchema } from "../io/json";
import type { PeftConfig } from "../io/peft";
import { headKey, stripPrefix } from "../io/peft-keys";
import { unsupported } from "../io/peft-lora";
import { entryOf } from "../io/safetensors";
import type { FloatTensor } from "../io/safetensors";
import type { Forward, LinearSite } from "../model/forward";
import type { Projection } from "../model/model";
import { crop } from "../ops/crop";
import { scaleColumns } from "../ops/scale_columns";
import { scaleRows } from "../ops/scale_rows";
import type { Value } from "../tape/tape";
import type { Adapter } from "./adapter";
import { constant, uniform } from "./initial";
import type { NewTensor } from "./initial";
import { lowRankLinear, scaledProduct } from "./low-rank";
import { fanInFanOut, onProjections } from "./on-projections";
import type { ProjectionAdapter } from "./on-projections";
import { TARGET_KEYS, targetKeys } from "./targets";
import type { LayerChoice, TargetOptions } from "./targets";

export interface VeraOptions extends TargetOptions {
  /** Rank of the shared matrices. Default 256. */
  readonly rank?: number;
  /** Probability of dropping an element of A's input while training. Default 0. */
  readonly dropout?: number;
  /** Initial value of every element of d. Default 0.1. */
  readonly initialD?: number;
}

const RANK = v.pipe(v.number(), v.safeInteger(), v.minValue(1));
const SCHEMA = v.object({
  ...TARGET_KEYS,
  peft_type: v.literal("VERA"),
  r: v.optional(RANK, 256),
  vera_dropout: v.optional(v.pipe(v.number(), v.minValue(0), v.maxValue(1)), 0),
  d_initial: v.optional(v.pipe(v.number(), v.finite()), 0.1),
  projection_prng_key: v.optional(v.number(), 0),
  save_projection: v.optional(v.boolean(), true),
  bias: v.optional(v.picklist(["none", "all", "vera_only"]), "none"),
});

const [SHARED_A, SHARED_B] = ["vera_A", "vera_B"];

/**
 * VeRA (Kopiczko et al. 2024, eq. 2), also known as ELoRA: y = x W + bias + b * (B (d * (A drop(x)))). A [r, widest in] and
 * B [widest out, r] are random, fixed, shared by all modules and cropped to the size of each; only d [r] and b [out] learn.
 *
 * Keeps x A^T (rank-wide) of each module while its d or b learns, never x itself.
 * @throws FileFormatError for options that make no sense.
 */
export function vera(options: VeraOptions = {}): Adapter {
  const { rank = 256, dropout = 0, initialD = 0.1 } = options;
  const keys = { peft_type: "VERA", r: rank, vera_dropout: dropout, d_initial: initialD, ...targetKeys(options) };
  return veraFromConfig(keys, "the VeRA configuration", options.layers);
}

/** VeRA by its adapter_config.json. @throws FileFormatError for a wrong value. */
export function veraFromConfig(value: PeftConfig, where: string, layers?: LayerChoice): Adapter {
  const config = checkSchema(SCHEMA, value, where);
  if (config.bias !== "none") throw unsupported(`bias: ${config.bias} for VeRA`, where);
  // PyTorch's random numbers would make the matrices that such a file lacks.
  if (!config.save_projection) throw unsupported("save_projection: false", where);
  const { r, d_initial: initialD, vera_dropout: dropout } = config;
  const adapter: ProjectionAdapter = onProjections({
    kind: "vera",
    config,
    layers,
    shared(targets): NewTensor[] {
      const { widestIn, widestOut } = widest(targets);
      return [
        { ...uniform(SHARED_A, [r, widestIn], Math.sqrt(6 / widestIn)), isFixed: true },
        { ...uniform(SHARED_B, [widestOut, r], Math.sqrt(6 / r)), isFixed: true },
      ];
    },
    tensorsOf: ({ name, out }) => [
      constant(`${name}.vera_lambda_d`, [r], initialD),
      constant(`${name}.vera_lambda_b`, [out], 0),
    ],
    linear(forward, site) {
      const { recorder } = forward;
      const { a, b } = sharedMatrices(forward, site, adapter.targets(forward.model).projections, r);
      const columnScales = recorder.parameter(`${site.name}.vera_lambda_d`, [r]);
      const rowScales = recorder.parameter(`${site.name}.vera_lambda_b`, [site.out]);
      const scaledColumns = recorder.apply(scaleColumns, { a: b, b: columnScales }, {});
      const scaled = recorder.apply(scaleRows, { a: scaledColumns, b: rowScales }, {});
      return lowRankLinear(forward, site, { a, b: scaled, scale: 1, dropout });
    },
    peft: (targets) => ({ fan_in_fan_out: fanInFanOut(targets) }),
    // PEFT keeps the shared matrices on the model itself, not on its modules.
    toFile: (model, tensors) => ({
      config: adapter.peftConfig(model),
      tensors: new Map(
        [...tensors].map(([name, tensor]) => [isShared(name) ? `base_model.${name}` : headKey(name), tensor]),
      ),
    }),
    fromFile: (stored) =>
      new Map([...stored].map(([key, tensor]) => [isShared(lastPart(key)) ? lastPart(key) : stripPrefix(key), tensor])),
    update({ name, in: inSize, out }, tensors) {
      const tensor = (key: string): FloatTensor => entryOf(tensors, key, "the adapter");
      const b = cropped(tensor(SHARED_B), out, r);
      return {
        a: cropped(tensor(SHARED_A), r, inSize),
        b: scaledProduct(b, tensor(`${name}.vera_lambda_b`), tensor(`${name}.vera_lambda_d`)),
        scale: 1,
      };
    },
  });
  return adapter;
}

const isShared = (name: string): boolean => name === SHARED_A || name === SHARED_B;
const lastPart = (key: string): string => key.slice(key.lastIndexOf(".") + 1);

function widest(targets: readonly Projection[]): { widestIn: number; widestOut: number } {
  return {
    widestIn: Math.max(...targets.map((target) => target.in)),
    widestOut: Math.max(...targets.map((target) => target.out)),
  };
}

/** A and B, cropped to a projection's size. A trace crops each once for every size. */
function sharedMatrices(
  forward: Forward,
  site: LinearSite,
  targets: readonly Projection[],
  r: number,
): { a: Value; b: Value } {
  const { widestIn, widestOut } = widest(targets);
  const { recorder } = forward;
  const [a, b] = [recorder.parameter(SHARED_A, [r, widestIn]), recorder.parameter(SHARED_B, [widestOut, r])];
  const cropOnce = (x: Value, rows: number, columns: number): Value =>
    forward.once(`${rows} x ${columns} of value ${x.id}`, () => recorder.apply(crop, { x }, { rows, columns }));
  return {
    a: site.in === widestIn ? a : cropOnce(a, r, site.in),
    b: site.out === widestOut ? b : cropOnce(b, site.out, r),
  };
}

/** The upper left part of a matrix, on the host. */
function cropped({ shape, data }: FloatTensor, rows: number, columns: number): FloatTensor {
  const width = shape[1] ?? 1;
  const element = (i: number): number => data[Math.floor(i / columns) * width + (i % columns)]!;
  return { shape: [rows, columns], data: Float32Array.from({ length: rows * columns }, (_, i) => element(i)) };
}
