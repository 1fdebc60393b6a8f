import type { FreezePolicy } from "./policy";
import { SafeSchedule, safeSettings } from "./safe-schedule";
import type { SafeOptions } from "./safe-schedule";

/**
 * SAFE, selective adapter freezing (Son et al. 2024): scores each layer's adapter by 1 - CKA (eq. 2 and 3), waits until the
 * scores settle, then freezes adapters below a threshold that rises on a cubic schedule (eq. 4).
 *
 * Saves gradients and moments of what is frozen, and, for a frozen prefix of layers, nearly all activations and the complete
 * backward pass below the lowest live adapter. Saves little for a frozen adapter above a live one, and nothing during
 * warm-up: the peak is that of plain LoRA.
 * @throws ConfigError for options that make no sense.
 */
export function safe(options: SafeOptions = {}): FreezePolicy {
  const settings = safeSettings(options);
  return {
    kind: "freezing",
    name: "safe",
    settings,
    usesImportance: true,
    start({ totalSteps, stepsPerEpoch }) {
      const interval = settings.every ?? stepsPerEpoch;
      let schedule = new SafeSchedule(settings, Math.floor(totalSteps / interval));
      return {
        isDue: ({ step }) => step > 0 && step % interval === 0,
        async decide({ live, importance }) {
          if (live.size === 0) return [];
          const scores = await importance({ center: settings.center });
          const liveScores = new Map([...scores].filter(([layer]) => live.has(layer)));
          return schedule.next(liveScores).flatMap((layer) => live.get(layer) ?? []);
        },
        level: () => ({ name: "threshold", value: schedule.threshold }),
        record: () => schedule.record(),
        save: () => schedule.save(),
        restore(saved) {
          if (saved !== null) schedule = SafeSchedule.restore(settings, saved);
        },
      };
    },
  };
}
