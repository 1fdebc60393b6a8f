import type { Statistics } from "../ops/shared/statistics";
import type { FreezeContext, FreezePolicy } from "./policy";
import { safeIntervals, SafeSchedule, safeSettings } from "./safe-schedule";
import type { SafeOptions, SafeSettings } from "./safe-schedule";

/**
 * SAFE, selective adapter freezing (Son et al. 2024): scores each layer's adapter by 1 - CKA (eq. 2 and 3), or by the
 * sensitivity of its gradients, waits until the scores settle, then freezes adapters below a threshold that rises on a cubic
 * schedule (eq. 4). An adapter is everything that learns in a layer; what learns below the layers, such as the biases of
 * embeddings, belongs to the lowest one.
 *
 * Saves gradients and moments of what is frozen, and, for a frozen prefix of layers, nearly all activations and the complete
 * backward pass below the lowest live adapter. Saves little for a frozen adapter above a live one, and nothing during
 * warm-up: the peak is that of plain LoRA.
 *
 * The run's `warn` says at its end if nothing froze, or fewer layers than asked.
 * @throws ConfigError for options that make no sense.
 */
export function safe(options: SafeOptions = {}): FreezePolicy {
  const settings = safeSettings(options);
  const { measure } = settings;
  const policy: FreezePolicy = {
    kind: "freezing",
    name: "safe",
    settings,
    usesImportance: settings.reference ?? false,
    mayFreeze: ({ layer }) => typeof layer === "number",
    start(run) {
      const intervals = safeIntervals(settings, run);
      let schedule = new SafeSchedule(settings, intervals);
      return {
        isDue: ({ step }) => step > 0 && intervals.completeAfter(step) > intervals.completeAfter(step - 1),
        async decide(context) {
          const { live } = context;
          if (live.size === 0 || schedule.isOver) return [];
          return schedule.next(await scoresOf(context, settings)).flatMap((layer) => live.get(layer) ?? []);
        },
        level: () => ({ name: "threshold", value: schedule.threshold }),
        remark: ({ size }) => schedule.remark(size),
        record: () => schedule.record(),
        save: () => schedule.save(),
        restore(saved) {
          if (saved !== null) schedule = SafeSchedule.restore(settings, intervals, saved);
        },
      };
    },
  };
  return measure === "cka" ? policy : { ...policy, statistics: sensitivityOf(measure) };
}

/** Statistics of every tensor that learns, since a name does not say whether it is one of a layer. */
const sensitivityOf = (kind: Statistics["kind"]): Statistics => {
  return { kind, beta1: 0.85, beta2: 0.95, when: "after_update", applies: () => true };
};

/** The scores of the live adapters, by layer. */
async function scoresOf(
  { live, importance, sensitivity }: FreezeContext,
  { measure, center }: SafeSettings,
): Promise<ReadonlyMap<number, number>> {
  if (measure === "cka") {
    const scores = await importance({ center });
    return new Map([...scores].filter(([layer]) => live.has(layer)));
  }
  const byTensor = await sensitivity();
  const mean = (names: readonly string[]): number =>
    names.reduce((sum, name) => sum + byTensor.get(name)!, 0) / names.length;
  return new Map([...live].map(([layer, names]) => [layer, mean(names)]));
}
