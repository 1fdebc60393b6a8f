import type { FreezePolicy, Progress } from "./policy";
import { SafeSchedule, safeSettings } from "./safe-schedule";
import type { SafeOptions } from "./safe-schedule";

/**
 * SAFE, selective adapter freezing (Son et al. 2024): scores each layer's adapter by 1 - CKA, waits until the scores
 * settle, then freezes those below a threshold that rises on a cubic schedule.
 *
 * Saves: gradients and moments of what is frozen, and, for a frozen prefix of layers, nearly all activations and the
 * whole backward pass below the lowest live adapter. Saves little for a frozen adapter above a live one, and nothing
 * during warm-up: the peak is plain LoRA's.
 */
export function safe(options: SafeOptions = {}): FreezePolicy {
  const settings = safeSettings(options);
  let schedule: SafeSchedule | undefined;
  const interval = ({ stepsPerEpoch }: Progress): number => settings.every ?? stepsPerEpoch;
  return {
    name: "safe",
    isDue: (progress) => progress.step > 0 && progress.step % interval(progress) === 0,
    async decide(context) {
      schedule ??= new SafeSchedule(settings, Math.floor(context.totalSteps / interval(context)));
      if (context.live.size === 0) return [];
      const importance = await context.importance({ center: settings.center });
      const live = new Map([...importance].filter(([layer]) => context.live.has(layer)));
      return schedule.next(live).flatMap((layer) => context.live.get(layer) ?? []);
    },
    record: () => schedule?.record() ?? { ...settings },
    settings: { ...settings },
    save: () => schedule?.save() ?? null,
    restore: (saved) => (schedule = saved === null ? undefined : SafeSchedule.restore(settings, saved)),
  };
}
