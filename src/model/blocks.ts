import { Recorder } from "../tape/tape";
import { Forward } from "./forward";
import type { Model } from "./model";

/** A sub-layer whose output an adapter may change before its residual. */
export interface Block {
  readonly name: string;
  readonly layer: number;
  /** Size of its output's last axis. */
  readonly width: number;
}

const found = new WeakMap<Model, readonly Block[]>();

/** The sub-layers of a model's transformer layers, in order: what the layers themselves offer when they are traced. */
export function blocksOf(model: Model): readonly Block[] {
  const known = found.get(model);
  if (known) return known;
  const blocks: Block[] = [];
  const recorder = new Recorder();
  const x = recorder.input("x", [1, 1, model.hiddenSize]);
  for (let layer = 0; layer < model.layers; layer++) {
    const forward = new Forward({
      recorder,
      model,
      batch: { size: 1, length: 1 },
      isTraining: false,
      hooks: {
        block(_forward, site) {
          blocks.push({ name: site.name, layer: site.layer, width: site.x.shape.at(-1)! });
          return undefined;
        },
      },
    });
    model.layer(forward, layer, x);
  }
  found.set(model, blocks);
  return blocks;
}
