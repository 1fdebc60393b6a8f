import * as v from "valibot";
import { ConfigError } from "../base/errors";
import { checkSchema } from "../io/json";
import { checkOptions, WHOLE_FROM_0 } from "./check-options";
import type { FreezeContext, FreezePolicy } from "./policy";

export interface FreezeToFitOptions {
  /** Most GPU bytes that the run may occupy after the decision, weights included. */
  readonly bytes: number;
  /** Step of the decision. Default one epoch: earlier scores mean little. */
  readonly atStep?: number;
}

/**
 * Freezes, once, the least important set of adapters with which the run fits into a number of bytes. Memory depends on the
 * lowest live adapter, so the candidates are all prefixes of the layers, each with adapters above it added by rising
 * importance (SAFE's 1 - CKA) until the run fits. The candidate of the least total importance is taken.
 *
 * Saves what is needed for that, where the head and one adapter fit into it. Until the decision the run needs the memory of
 * plain LoRA.
 * @throws ConfigError for a number of bytes that is not positive, and from `decide` when nothing fits.
 */
export function freezeToFit({ bytes, atStep }: FreezeToFitOptions): FreezePolicy {
  if (!(bytes > 0)) throw new ConfigError(`freeze_to_fit: bytes is ${bytes}.`, "Give a positive number.");
  checkOptions("freeze_to_fit", { atStep }, { atStep: WHOLE_FROM_0 });
  return {
    kind: "freezing",
    name: "freeze_to_fit",
    settings: { bytes, atStep },
    usesImportance: true,
    start({ stepsPerEpoch }) {
      let findings: Record<string, unknown> = {};
      return {
        isDue: ({ step }) => step === (atStep ?? stepsPerEpoch),
        async decide(context) {
          if (context.bytesWith([]) <= bytes) return [];
          const importance = await context.importance();
          const layers = cheapest(context, importance, bytes);
          const frozen = tensors(context, layers);
          findings = {
            importance: Object.fromEntries(importance),
            frozen: layers,
            plannedBytes: context.bytesWith(frozen),
          };
          return frozen;
        },
        record: () => findings,
        save: () => findings,
        restore(saved) {
          findings = checkSchema(
            v.record(v.string(), v.unknown()),
            saved,
            "the findings of freeze_to_fit in a checkpoint",
          );
        },
      };
    },
  };
}

/** Live tensors of some layers. */
const tensors = ({ live }: FreezeContext, layers: readonly number[]): string[] =>
  layers.flatMap((layer) => live.get(layer) ?? []);

/** The layers to freeze. @throws ConfigError where no candidate fits. */
function cheapest(context: FreezeContext, importance: ReadonlyMap<number, number>, bytes: number): number[] {
  const layers = [...context.live.keys()].sort((a, b) => a - b);
  const score = (layer: number): number => importance.get(layer) ?? 0;
  let best: { readonly layers: number[]; readonly cost: number } | undefined;
  for (let prefix = 0; prefix < layers.length; prefix++) {
    const candidate = layers.slice(0, prefix);
    const above = layers.slice(prefix).sort((a, b) => score(a) - score(b));
    const fits = (): boolean => context.bytesWith(tensors(context, candidate)) <= bytes;
    // One adapter stays live, so that there is something to fine-tune.
    while (!fits() && above.length > 1) candidate.push(above.shift()!);
    if (!fits()) continue;
    const cost = candidate.reduce((sum, layer) => sum + score(layer), 0);
    if (!best || cost < best.cost) best = { layers: candidate, cost };
  }
  if (best) return best.layers;
  throw new ConfigError(
    `No set of frozen adapters makes this run fit ${bytes} bytes; with one left it needs ${context.bytesWith(tensors(context, layers.slice(0, -1)))}.`,
    "Use a smaller batch with accumulation, shorter texts, or more bytes.",
  );
}
