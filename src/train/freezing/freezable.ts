import { ConfigError } from "../../base/errors";
import type { TensorPlace } from "../../model/model";
import type { TrainableTensors } from "../tensors/trainable-tensors";

/**
 * Throws where tensors cannot be frozen.
 * @throws ConfigError for a tensor that the run does not train, or where nothing would be left to train.
 */
export function checkFreeze({ specs, live }: Pick<TrainableTensors, "specs" | "live">, names: readonly string[]): void {
  const unknown = names.find((name) => !specs.has(name));
  if (unknown !== undefined) {
    throw new ConfigError(`${unknown} is not trained by this run.`, "Name tensors of trainer.state.specs.");
  }
  if ([...live.keys()].some((name) => !names.includes(name))) return;
  throw new ConfigError("Freezing these tensors would leave nothing to train.", "Keep the head, or stop the run.");
}

/**
 * The tensors that a policy may freeze of those that it chose: where nothing would be left to train, the uppermost of its
 * groups stays, since backward then ends there. Groups are what lies above the layers, each layer, and what lies below.
 * @returns the tensors to freeze, and the place of those that stay for this reason.
 */
export function withoutLastGroup(
  { live }: Pick<TrainableTensors, "live">,
  chosen: readonly string[],
): { readonly tensors: readonly string[]; readonly kept?: { readonly place: TensorPlace } } {
  if (chosen.length === 0 || [...live.keys()].some((name) => !chosen.includes(name))) return { tensors: chosen };
  const height = (place: TensorPlace): number => (place === "below" ? -1 : (place ?? Infinity));
  const places = [...live.values()].map(({ layer }) => layer);
  const place = places.reduce((a, b) => (height(b) > height(a) ? b : a));
  return { tensors: chosen.filter((name) => live.get(name)?.layer !== place), kept: { place } };
}
