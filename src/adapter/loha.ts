import * as v from "valibot";
import { checkSchema } from "../io/json";
import type { PeftConfig } from "../io/peft";
import { entryOf } from "../io/safetensors";
import type { FloatTensor } from "../io/safetensors";
import { binary } from "../ops/binary";
import { reshape } from "../ops/reshape";
import { scaleRows } from "../ops/scale_rows";
import type { Value } from "../tape/tape";
import type { Adapter } from "./adapter";
import { constant, uniform } from "./initial";
import { checkPatterns } from "./lora";
import { lowRankLinear } from "./low-rank";
import { droppedOutputs, LYCORIS_KEYS, lycorisKeys, sizesOf } from "./lycoris";
import type { LycorisOptions } from "./lycoris";
import { onProjections } from "./on-projections";
import type { LayerChoice } from "./targets";

export type LohaOptions = LycorisOptions;

const SCHEMA = v.object({ ...LYCORIS_KEYS, peft_type: v.literal("LOHA") });

/**
 * LoHa (Hyeon-Woo et al. 2022, FedPara, section 2.2): y = x W + bias + scale * x ((A1 B1) * (A2 B2))^T for every target, where * is the
 * elementwise product, A1 and A2 [out, r] and B1 and B2 [r, in], which begins with zeros in B2. The update is of rank r^2.
 *
 * It is computed as the low-rank update that it is: row (k, l) of its A [r^2, in] is row k of B1 times row l of B2, column (k, l) of its B
 * [out, r^2] is column k of A1 times column l of A2. That takes less time than the weight-sized product, and no more memory, while r^2
 * is below in * out / (in + out): r up to 19 for 768 x 768, 45 for 4096 x 4096.
 *
 * Keeps x for B1 and B2 (shared by modules), x A^T (r^2 wide) for A1 and A2, and A and B, r^2 (in + out) numbers; never the update.
 * @throws FileFormatError for options that make no sense.
 */
export function loha(options: LohaOptions = {}): Adapter {
  return lohaFromConfig(lycorisKeys("LOHA", options), "the LoHa configuration", options.layers);
}

/** LoHa by its adapter_config.json. @throws FileFormatError for a wrong value. */
export function lohaFromConfig(value: PeftConfig, where: string, layers?: LayerChoice): Adapter {
  const config = checkSchema(SCHEMA, value, where);
  return onProjections({
    kind: "loha",
    config,
    layers,
    check: (targets) => checkPatterns(config, targets),
    tensorsOf(target) {
      const { rank: r } = sizesOf(config, target.name);
      return [
        uniform(`${target.name}.hada_w1_a`, [target.out, r], 1 / Math.sqrt(r)),
        uniform(`${target.name}.hada_w1_b`, [r, target.in], 1 / Math.sqrt(target.in)),
        uniform(`${target.name}.hada_w2_a`, [target.out, r], 1 / Math.sqrt(r)),
        constant(`${target.name}.hada_w2_b`, [r, target.in], 0),
      ];
    },
    linear(forward, site) {
      const { recorder } = forward;
      const { rank: r, scale } = sizesOf(config, site.name);
      const factor = (part: string, shape: readonly number[], as: readonly number[]): Value =>
        recorder.apply(reshape, { x: recorder.parameter(`${site.name}.hada_${part}`, shape) }, { shape: as });
      const product = (a: Value, b: Value, shape: readonly number[]): Value =>
        recorder.apply(reshape, { x: recorder.apply(binary, { a, b }, { kind: "mul" }) }, { shape });
      const a1 = factor("w1_a", [site.out, r], [site.out, r, 1]);
      const a2 = factor("w2_a", [site.out, r], [site.out, 1, r]);
      const b1 = factor("w1_b", [r, site.in], [r, 1, site.in]);
      const b2 = recorder.parameter(`${site.name}.hada_w2_b`, [r, site.in]);
      const b = product(a1, a2, [site.out, r * r]);
      const kept = droppedOutputs(forward, site.out, config, true);
      return lowRankLinear(forward, site, {
        a: product(b1, b2, [r * r, site.in]),
        b: kept ? recorder.apply(scaleRows, { a: b, b: kept }, {}) : b,
        scale,
        dropout: 0,
      });
    },
    update({ name, in: inSize, out }, tensors) {
      const { rank: r, scale } = sizesOf(config, name);
      const data = (part: string): Float32Array => entryOf(tensors, `${name}.hada_${part}`, "the adapter").data;
      const [a1, b1, a2, b2] = [data("w1_a"), data("w1_b"), data("w2_a"), data("w2_b")];
      const filled = (
        shape: readonly [number, number],
        element: (row: number, column: number) => number,
      ): FloatTensor => ({
        shape,
        data: Float32Array.from({ length: shape[0] * shape[1] }, (_, i) =>
          element(Math.floor(i / shape[1]), i % shape[1]),
        ),
      });
      return {
        a: filled([r * r, inSize], (row, i) => b1[Math.floor(row / r) * inSize + i]! * b2[(row % r) * inSize + i]!),
        b: filled([out, r * r], (o, column) => a1[o * r + Math.floor(column / r)]! * a2[o * r + (column % r)]!),
        scale,
      };
    },
  });
}
