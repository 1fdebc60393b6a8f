import { readFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import type { BenchedEngine, Family, Runner, Workload } from "../peers/workload";
import { actAsBrowser } from "../support/browser";
import { onnxModel } from "./onnx-model";
import type { OnnxNode, OnnxShapes } from "./onnx-model";

/** The peer's name in results. */
export const ONNXRUNTIME = "onnxruntime-web";

/** The package is as large as all other development dependencies together, so it is not one of them. */
const MODULE = "onnxruntime-web/webgpu";
const BINARY = "onnxruntime-web/ort-wasm-simd-threaded.asyncify.wasm";

/** The part of onnxruntime-web that is used here. */
interface OnnxRuntime {
  readonly env: {
    readonly versions: { readonly web?: string };
    readonly wasm: { wasmBinary?: Uint8Array; numThreads?: number };
  };
  readonly Tensor: new (type: "float32", data: Float32Array, shape: readonly number[]) => unknown;
  readonly InferenceSession: {
    create(model: Uint8Array, options: { executionProviders: readonly string[] }): Promise<Session>;
  };
}

interface Session {
  run(inputs: Readonly<Record<string, unknown>>): Promise<unknown>;
}

/** Each family as exported models have it: a low-rank term in two products, attention in the runtime's own operator. */
const NODES: Partial<Record<Family, (attributes: Workload["attributes"]) => OnnxNode[]>> = {
  product: () => [{ operator: "MatMul", inputs: ["x", "w"], output: "y" }],
  lora: ({ scale = 1 }) => [
    { operator: "MatMul", inputs: ["x", "w"], output: "base" },
    { operator: "Gemm", inputs: ["x", "a"], output: "z", integers: { transB: 1 } },
    { operator: "Gemm", inputs: ["z", "b", "base"], output: "y", integers: { transB: 1 }, floats: { alpha: scale } },
  ],
  attention: ({ heads = 1 }) => [
    {
      operator: "MultiHeadAttention",
      inputs: ["q", "k", "v"],
      output: "y",
      integers: { num_heads: heads },
      domain: "com.microsoft",
    },
  ],
};

/**
 * ONNX Runtime's WebGPU provider, which has no gradients, so that it can prepare workloads without them alone. Undefined where
 * its package is not installed.
 */
export async function onnxruntime(): Promise<BenchedEngine | undefined> {
  actAsBrowser();
  let ort: OnnxRuntime;
  try {
    // The package is not installed with the others, so the compiler may not know its types.
    ort = ((await import(MODULE)) as { default: OnnxRuntime }).default;
    ort.env.wasm.wasmBinary = await readFile(fileURLToPath(import.meta.resolve(BINARY)));
  } catch (error) {
    if (error instanceof Error && "code" in error && error.code === "ERR_MODULE_NOT_FOUND") return undefined;
    throw error;
  }
  ort.env.wasm.numThreads = 1;
  copySharedMemory();
  return {
    name: `${ONNXRUNTIME} ${ort.env.versions.web ?? ""}`.trim(),
    sync: "its own, before results are read",
    prepare: (workload) => prepare(ort, workload),
  };
}

async function prepare(ort: OnnxRuntime, { family, inputs, learn, attributes, name }: Workload): Promise<Runner> {
  const nodes = family === "step" ? undefined : NODES[family]?.(attributes);
  if (!nodes || learn.length > 0) throw new Error(`${ONNXRUNTIME} does not compute "${name}".`);
  const read = new Set(nodes.flatMap((node) => node.inputs));
  const operands = Object.entries(inputs).flatMap(([slot, { shape, data }]) =>
    read.has(slot) && data instanceof Float32Array ? [[slot, shape, data] as const] : [],
  );
  const shapes: OnnxShapes = Object.fromEntries(operands.map(([slot, shape]) => [slot, shape]));
  const first = operands[0]![1];
  const width = (shapes["w"] ?? first).at(-1)!;
  const model = onnxModel(nodes, shapes, { y: [...first.slice(0, -1), width] });
  const session = await ort.InferenceSession.create(model, { executionProviders: ["webgpu"] });
  const tensors = operands.map(([slot, shape, data]) => [slot, new ort.Tensor("float32", data, shape)] as const);
  return {
    run: async () => {
      await session.run(Object.fromEntries(tensors));
    },
    outputs: () => Promise.reject(new Error(`Results of ${ONNXRUNTIME} are not read.`)),
    // A session that is released waits for a device that never ran anything.
    dispose: () => undefined,
  };
}

/** Lets queues write from memory that threads share, in which the runtime has everything; npm's `webgpu` refuses it. */
function copySharedMemory(): void {
  const { prototype } = GPUQueue;
  // oxlint-disable-next-line typescript/unbound-method -- the function below calls it on its own queue
  const { writeBuffer } = prototype;
  prototype.writeBuffer = function (buffer, offset, data, start, size) {
    const copied = data instanceof Uint8Array && data.buffer instanceof SharedArrayBuffer ? data.slice() : data;
    // Without memory that threads share.
    writeBuffer.call(this, buffer, offset, copied as BufferSource, start, size);
  };
}
