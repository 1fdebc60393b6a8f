import * as v from "valibot";
import { ConfigError } from "../base/errors";
import { checkSchema } from "../io/json";
import type { FreezeContext, FreezePolicy } from "./policy";

export interface MemoryBudgetOptions {
  /** GPU bytes that the run is to fit from the decision on, weights included. */
  readonly bytes: number;
  /** Step of the decision; default one epoch, by which scores mean something. */
  readonly atStep?: number;
}

/**
 * Freezes, once, the least important set of adapters with which the run fits a number of bytes. Since memory follows the
 * lowest live adapter, candidates are every prefix of layers, with adapters above it added by rising importance (SAFE's
 * 1 - CKA) until it fits; the one whose importance sums to least is taken.
 *
 * Saves what the budget asks for, if the head and one adapter can fit it at all; until the decision the run needs plain
 * LoRA's memory.
 * @throws ConfigError for a budget that is no positive number, and from `decide` when nothing fits.
 */
export function memoryBudget({ bytes, atStep }: MemoryBudgetOptions): FreezePolicy {
  if (!(bytes > 0)) throw new ConfigError(`The memory budget is ${bytes} bytes.`, "Give a positive number.");
  return {
    kind: "freezing",
    name: "memory_budget",
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
          findings = checkSchema(v.record(v.string(), v.unknown()), saved, "a policy's findings");
        },
      };
    },
  };
}

const tensors = ({ live }: FreezeContext, layers: readonly number[]): string[] =>
  layers.flatMap((layer) => live.get(layer) ?? []);

function cheapest(context: FreezeContext, importance: ReadonlyMap<number, number>, bytes: number): number[] {
  const layers = [...context.live.keys()].sort((a, b) => a - b);
  const score = (layer: number): number => importance.get(layer) ?? 0;
  let best: { readonly layers: number[]; readonly cost: number } | undefined;
  for (let prefix = 0; prefix < layers.length; prefix++) {
    const chosen = layers.slice(0, prefix);
    const above = layers.slice(prefix).sort((a, b) => score(a) - score(b));
    // One adapter stays, so that there is something to fine-tune.
    while (context.bytesWith(tensors(context, chosen)) > bytes && above.length > 1) chosen.push(above.shift()!);
    if (context.bytesWith(tensors(context, chosen)) > bytes) continue;
    const cost = chosen.reduce((sum, layer) => sum + score(layer), 0);
    if (!best || cost < best.cost) best = { layers: chosen, cost };
  }
  if (best) return best.layers;
  throw new ConfigError(
    `No set of frozen adapters makes this run fit ${bytes} bytes; with one left it needs ${context.bytesWith(tensors(context, layers.slice(0, -1)))}.`,
    "Use a smaller batch with accumulation, shorter texts, or a larger budget.",
  );
}
