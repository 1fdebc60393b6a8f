import { loadModel, lora, openDirectory } from "safetape";
import type { Batch, Engine } from "safetape";
import type { Subject } from "safetape/analysis";
import { readFloatTensors, readSafetensors } from "../../src/io/safetensors";

/** The golden case whose exact Hessian is in `test/interop/hessian.json`. */
export const GOLDEN = "test/golden/bert-lora";

/** The start of that case: its model, a LoRA whose B is not zero, and its first `count` batches, which have padding. */
export async function goldenSubject(engine: Engine, count: number): Promise<{ subject: Subject; batches: Batch[] }> {
  const directory = await openDirectory(GOLDEN);
  const model = await loadModel(engine, GOLDEN);
  const tensors = await readFloatTensors(directory, "start.safetensors");
  const batchTensors = await readSafetensors(directory, "batches.safetensors");
  const part = (name: string, step: number): Int32Array => {
    const { data, shape } = batchTensors.get(name)!;
    // The batches of golden cases are integers.
    return (data as Int32Array).subarray((step * data.length) / shape[0]!, ((step + 1) * data.length) / shape[0]!);
  };
  const batches = Array.from({ length: count }, (_, step) => ({
    size: 4,
    length: 17,
    rows: 4,
    inputIds: part("input_ids", step),
    labels: part("labels", step),
    attentionMask: part("attention_mask", step),
    tokenTypeIds: part("token_type_ids", step),
  }));
  return { subject: { model, adapter: lora({ rank: 4, alpha: 16, targets: ["query", "value"] }), tensors }, batches };
}
