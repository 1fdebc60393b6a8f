import type { Random } from "../base/random";
import type { Shape } from "../base/shape";
import type { PeftConfig } from "../io/peft";
import type { ForwardHooks } from "../model/forward";
import type { Model } from "../model/model";

/** A tensor that an adapter adds to a model. */
export interface AdapterTensor {
  /** The module it belongs to and its own name: `bert.encoder.layer.0.attention.self.query.lora_A.weight`. */
  readonly name: string;
  readonly shape: Shape;
  /** Values before the first step, row-major. */
  initial(random: Random): Float32Array;
}

/**
 * A way to fine-tune: which tensors it adds or trains, and how they change the model while it is traced. It holds no
 * memory and knows nothing of gradients or freezing; those follow from what it records.
 */
export interface Adapter extends ForwardHooks {
  /** Short name for reports, as `lora`. */
  readonly kind: string;
  /** Tensors that it adds. @throws ConfigError when the model has no module that it targets. */
  tensors(model: Model): readonly AdapterTensor[];
  /** Tensors of the checkpoint that it trains as well (a task's head); the trainer works on copies of them. */
  baseTensors?(model: Model): readonly string[];
  /** Trains the checkpoint's own tensors without copying them: the loaded model changes (full tuning). */
  readonly trainsInPlace?: boolean;
  /** adapter_config.json for PEFT, or for this library alone where PEFT has no such kind. */
  peftConfig(model: Model): PeftConfig;
}
