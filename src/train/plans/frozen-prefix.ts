import { ConfigError } from "../../base/errors";
import type { Batch } from "../../data/batch";
import type { Node } from "../../tape/tape";
import type { TrainerOptions } from "../options";
import type { Trace } from "./trace";

/**
 * The first layer whose input may change from step to step for one and the same row: some tensor below it learns, or a
 * dropout acts there. What enters it can be kept; 0 where nothing can, the number of layers where only the head changes.
 */
export function frozenPrefix({ tape, layers }: Pick<Trace, "tape" | "layers">, live: ReadonlySet<string>): number {
  const changing = new Set<number>();
  for (const { id, origin } of tape.values) {
    if (origin.kind === "parameter" && live.has(origin.name)) changing.add(id);
  }
  for (const node of tape.nodes) {
    if (!drops(node) && !Object.values(node.inputs).some((id) => changing.has(id))) continue;
    Object.values(node.outputs).forEach((id) => changing.add(id));
  }
  const first = layers.findIndex(({ id }) => changing.has(id));
  return first < 0 ? layers.length : first;
}

/** Whether a node draws a dropout mask: `seed` alone does not tell, attention binds it in any case. */
const drops = ({ inputs, attributes }: Node): boolean =>
  inputs["seed"] !== undefined && ["dropout", "probability"].some((name) => Number(attributes[name] ?? 0) > 0);

/**
 * Refuses a run whose prefix could never be kept.
 * @param furthest layers that nothing but a live adapter changes.
 * @throws ConfigError
 */
export function checkPrefixCache({ adapter, policy }: TrainerOptions, first: Batch, furthest: number): void {
  const refuse = (fact: string, remedy: string): never => {
    throw new ConfigError(`prefixCache: ${fact}.`, remedy);
  };
  if (policy?.kind === "structure_pruning")
    refuse(`${policy.name} changes the base model in the course of the run`, "Leave it out.");
  if (policy?.kind === "layer_dropping")
    refuse(`${policy.name} leaves other layers out in every step`, "Leave it out.");
  if (adapter.virtualTokens) refuse("the texts begin with virtual tokens that learn", "Leave it out.");
  if (first.ids === undefined) {
    refuse("the batches do not tell which samples they hold", "Give them `ids`, as Batches and ImageBatches do.");
  }
  if (furthest === 0) {
    refuse(
      "dropout acts below the first layer's output",
      "Give dropout: false, or set the model's probabilities to 0.",
    );
  }
}
