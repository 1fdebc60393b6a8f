import type { LoraConfig } from "../io/peft-lora";
import type { Forward, LinearSite } from "../model/forward";
import { add } from "../ops/add";
import { addBroadcast } from "../ops/add_broadcast";
import { inverseNorms } from "../ops/inverse_norms";
import { linear } from "../ops/linear";
import { mul } from "../ops/mul";
import { scaleColumns } from "../ops/scale_columns";
import { scaledAdd } from "../ops/scaled_add";
import type { Value } from "../tape/tape";
import type { Adapter } from "./adapter";
import { constant } from "./initial";
import { configOf } from "./lora";
import type { LoraForm, LoraOptions } from "./lora";
import { initialisedLora, residualUpdate } from "./lora-init";
import type { InitialisedOptions } from "./lora-init";
import { lowRankLinear, outputNorms, withUpdate } from "./low-rank";
import type { TracedUpdate } from "./low-rank";
import { maskedOutputs } from "./masked";

/**
 * DoRA (Liu et al. 2024, eq. 5): LoRA that learns lengths and directions of the weights separately. y = g * (x W + scale *
 * (x A^T) B^T) + bias for every target, where g = m / ||W + scale B A|| has a factor for each output and m [out] begins with the
 * norms of W. The norms are constants of the backward pass (section 4.3). With dropout, as in PEFT,
 * y = x W + bias + (g - 1) * drop(x) W + g * scale * (drop(x) A^T) B^T, which takes a second product with W.
 *
 * Keeps what LoRA keeps, x W + scale * (x A^T) B^T for m and, with dropout, drop(x). The norms are computed in each pass without
 * forming W + scale B A.
 * @throws FileFormatError for a rank, scale or dropout that makes no sense, ConfigError for `addBiases` where none are trained.
 */
export function dora(options: LoraOptions = {}): Adapter {
  const config = { ...configOf(options), use_dora: true };
  return doraFromConfig(config, "the DoRA configuration", { layers: options.layers });
}

/** DoRA by its adapter_config.json. */
export function doraFromConfig(
  config: LoraConfig,
  where: string,
  options: Omit<InitialisedOptions, "form"> = {},
): Adapter {
  const form: LoraForm = {
    kind: "dora",
    tensorsOf: ({ name, out, layout }, factors) => [
      ...factors,
      {
        ...constant(magnitudeName(name), [out], 1),
        initialFrom: {
          weight: `${name}.weight`,
          values: async (read) => outputNorms(await read(), layout === "in_out"),
        },
      },
    ],
    linear: doraLinear,
    merged(model, tensors, name, value) {
      const module = name.replace(/\.weight$/, "");
      const m = module === name ? undefined : tensors.get(magnitudeName(module));
      if (!m) return value;
      const isTransposed = model.projections.some(({ name: other, layout }) => other === module && layout === "in_out");
      const sum = withUpdate(value, residualUpdate(config, module, tensors), isTransposed);
      const norms = outputNorms(sum, isTransposed);
      // An output of norm 0 stays 0.
      const factors = m.data.map((magnitude, i) => magnitude / (norms[i]! || 1));
      return maskedOutputs(sum, { shape: m.shape, data: factors }, isTransposed);
    },
  };
  return initialisedLora(config, where, { ...options, form });
}

function doraLinear(forward: Forward, site: LinearSite, { dropout, ...update }: TracedUpdate): Value {
  const { recorder } = forward;
  const factors = forward.once(`factors of ${site.name}`, () => {
    const inputs = { w: site.weight, a: update.a, b: update.b };
    const inverse = recorder.apply(inverseNorms, inputs, { layout: site.layout, scale: update.scale });
    return recorder.apply(mul, { a: recorder.parameter(magnitudeName(site.name), [site.out]), b: inverse }, {});
  });
  const x = forward.dropout(site.x, dropout);
  const sum = lowRankLinear(forward, { ...site, x, biasValue: undefined }, { ...update, dropout: 0 });
  const scaled = recorder.apply(scaleColumns, { a: sum, b: factors }, {});
  if (x === site.x) return site.biasValue ? recorder.apply(addBroadcast, { a: scaled, b: site.biasValue }, {}) : scaled;
  // x W - drop(x) W as one product.
  const rest = recorder.apply(scaledAdd, { a: x, b: site.x }, { factor: -1 });
  const inputs = { x: rest, w: site.weight, bias: site.biasValue };
  return recorder.apply(add, { a: recorder.apply(linear, inputs, { layout: site.layout }), b: scaled }, {});
}

/** Name of a module's m [out]. */
const magnitudeName = (module: string): string => `${module}.lora_magnitude_vector`;
