import { cka } from "../../ops/cka";
import { Recorder } from "../../tape/tape";
import type { Tape, Value } from "../../tape/tape";
import { forwardOf } from "./trace";
import type { TraceOptions } from "./trace";

/** Two forward passes side by side, with the adapter and without, compared layer by layer. */
export interface ComparisonTrace {
  readonly tape: Tape;
  /** Name of the output that holds a layer's CKA sums -> value. */
  readonly outputs: Readonly<Record<string, Value>>;
}

/** Output under which a comparison gives the CKA sums of a layer. */
export const comparisonOutput = (layer: number): string => `cka of layer ${layer}`;

/** What a comparison holds the adapted model against. */
export interface Reference {
  /** The adapter acts there as well, and its tensors go by these names. */
  readonly rename: (name: string) => string;
}

/**
 * Traces the probe of SAFE: every layer's activation with the adapter (X) and of the original model or another reference
 * (Y), in eval mode, and their CKA sums. Layers are traced in turn, so no more than one layer's pair is alive at once.
 */
export function traceComparison(options: TraceOptions, center: boolean, reference?: Reference): ComparisonTrace {
  const recorder = new Recorder();
  const { model, batch } = options;
  const adapted = forwardOf(recorder, { ...options, isTraining: false }, options.adapter);
  const other = forwardOf(recorder, { ...options, isTraining: false }, reference && options.adapter);
  const rename = reference?.rename ?? ((name: string): string => name);
  const mask = recorder.input("probe_mask", [batch.size * batch.length], "i32");
  const outputs: Record<string, Value> = {};
  let x = model.embed(adapted);
  let y = recorder.renamed(rename, () => model.embed(other));
  for (let index = 0; index < model.layers; index++) {
    const before = y;
    x = model.layer(adapted, index, x);
    y = recorder.renamed(rename, () => model.layer(other, index, before));
    outputs[comparisonOutput(index)] = recorder.apply(cka, { x, y, mask }, { center });
  }
  return { tape: recorder, outputs };
}
