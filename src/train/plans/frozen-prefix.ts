import { ConfigError } from "../../base/errors";
import type { Batch } from "../../data/batch";
import type { Model } from "../../model/model";
import type { Node } from "../../tape/tape";
import type { TrainerOptions } from "../options";
import type { Trace } from "./trace";

/**
 * The lowest layer whose output, for the same row, may differ from step to step, since a tensor below its output learns or
 * dropout acts there: the number of layers below which nothing changes. 0 where already the first layer's output changes,
 * the number of layers where only the head does. It ends with the encoder of an encoder-decoder, since all layers of the
 * decoder read the encoder's output.
 */
export function frozenPrefix(
  { tape, layers }: Pick<Trace, "tape" | "layers">,
  live: ReadonlySet<string>,
  { encoderDecoder }: Pick<Model, "encoderDecoder">,
): number {
  const changing = new Set<number>();
  for (const { id, origin } of tape.values) {
    if (origin.kind === "parameter" && live.has(origin.name)) changing.add(id);
  }
  for (const node of tape.nodes) {
    if (!drawsDropout(node) && !Object.values(node.inputs).some((id) => changing.has(id))) continue;
    for (const id of Object.values(node.outputs)) changing.add(id);
  }
  const first = layers.findIndex(({ id }) => changing.has(id));
  return Math.min(first < 0 ? layers.length : first, encoderDecoder?.encoderLayers ?? Infinity);
}

/** Whether a node draws a dropout mask. The input `seed` alone does not say so: attention always has one. */
function drawsDropout({ inputs, attributes }: Node): boolean {
  if (inputs["seed"] === undefined) return false;
  return ["dropout", "probability"].some((name) => Number(attributes[name] ?? 0) > 0);
}

/**
 * Refuses a run whose prefix cache could never be used.
 * @param constantLayers layers whose output is constant once every tensor is frozen.
 * @throws ConfigError
 */
export function checkPrefixCache({ adapter, policy }: TrainerOptions, first: Batch, constantLayers: number): void {
  const refuse = (fact: string, remedy = "Leave prefixCache out."): never => {
    throw new ConfigError(`prefixCache: ${fact}.`, remedy);
  };
  if (policy?.kind === "structure_pruning") refuse(`${policy.name} changes the base model in the course of the run`);
  if (policy?.kind === "layer_dropping") refuse(`${policy.name} leaves other layers out from step to step`);
  if (adapter.stack) refuse(`${adapter.kind} carries other hidden states through the layers than one per token`);
  if (adapter.virtualTokens) refuse("the texts begin with virtual tokens that learn");
  if (first.ids === undefined) {
    refuse("the batches do not say which samples they hold", "Give them `ids`, as Batches and ImageBatches do.");
  }
  if (constantLayers === 0) {
    refuse(
      "dropout acts below the first layer's output",
      "Give dropout: false, or set the model's probabilities to 0.",
    );
  }
}
