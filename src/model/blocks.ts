import { Recorder } from "../tape/tape";
import { Forward } from "./forward";
import { statesShape } from "./model";
import type { BatchSize, Model } from "./model";

/** A sub-layer whose output an adapter may change before its residual is added. */
export interface Block {
  /** Name of the sub-layer's module. */
  readonly name: string;
  /** Undefined for a sub-layer of which all layers are made. */
  readonly layer: number | undefined;
  /** Size of the output's last axis. */
  readonly width: number;
}

const cache = new WeakMap<Model, readonly Block[]>();

/**
 * Sub-layers of a model's transformer layers, in order: those at which the layers, when traced, call `Forward.block`. What
 * several layers share is there once.
 */
export function blocksOf(model: Model): readonly Block[] {
  const cached = cache.get(model);
  if (cached) return cached;
  const blocks: Block[] = [];
  const recorder = new Recorder();
  const batch: BatchSize = { size: 1, length: 1, targetLength: 1 };
  const forward = new Forward({
    recorder,
    model,
    batch,
    isTraining: false,
    hooks: {
      block(_forward, site) {
        const { name, layer } = site;
        if (blocks.every((block) => block.name !== name)) blocks.push({ name, layer, width: site.x.shape.at(-1)! });
        return undefined;
      },
    },
  });
  const stack = forward.stack(recorder.input("x", statesShape(model, 0, batch)));
  for (let layer = 0; layer < model.layers; layer++) stack.layer(layer);
  cache.set(model, blocks);
  return blocks;
}
