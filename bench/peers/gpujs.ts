import { loadGpuJs } from "../support/gpujs";
import type { GpuJs, GpuJsHandle, GpuJsKernel } from "../support/gpujs";
import { FEWEST_RUNS } from "./workload";
import type { BenchedEngine, Input, Runner, Workload } from "./workload";

type Mode = "webgpu" | "cpu";

/** A workload is skipped if its fewest runs would take longer than this. */
const MAX_SECONDS = 10;

/** gpu.js, which only runs kernels that the caller writes. The products here are those of its documentation. */
export async function gpujs(mode: Mode): Promise<BenchedEngine> {
  const GPU = await loadGpuJs();
  let flopsPerSecond = Infinity;
  return {
    name: `gpu.js, ${mode}`,
    sync: mode === "webgpu" ? "queue.onSubmittedWorkDone" : "returns when it is done",
    async prepare(workload) {
      const { family, learn, flops } = workload;
      if (learn.length > 0 || family === "step") throw new Error("gpu.js has no gradients");
      if (family !== "product" && family !== "lora") throw new Error("gpu.js has no operations, only kernels");
      const seconds = ((FEWEST_RUNS + 1) * flops) / flopsPerSecond;
      if (seconds > MAX_SECONDS) throw new Error(`${FEWEST_RUNS + 1} runs would take about ${seconds.toFixed(0)} s`);
      const runner = await prepare(GPU, mode, workload);
      const run = async (): Promise<void> => {
        const start = performance.now();
        await runner.run();
        flopsPerSecond = (1000 * flops) / (performance.now() - start);
      };
      return { ...runner, run };
    },
  };
}

async function prepare(GPU: GpuJs, mode: Mode, { family, inputs, attributes }: Workload): Promise<Runner> {
  const gpu = new GPU({ mode });
  const isOnGpu = mode === "webgpu";
  const kernel = (body: string, rows: number, columns: number): GpuJsKernel =>
    gpu.createKernel(body).setOutput([columns, rows]).setPipeline(isOnGpu);
  /** Places an operand where the kernels run. */
  const place = (input: Input, isTransposed = false): unknown => {
    const rows = rowsOf(input, isTransposed);
    if (!isOnGpu) return rows;
    const copy = "function (a) { return a[this.thread.y][this.thread.x]; }";
    return kernel(copy, rows.length, rows[0]?.length ?? 0)(rows);
  };
  const [m = 0, k = 0] = inputs["x"]?.shape ?? [];
  const n = inputs["w"]?.shape[1] ?? 0;
  const rank = inputs["a"]?.shape[0] ?? 0;
  const [x, w] = [await place(inputs["x"]!), await place(inputs["w"]!)];
  const adapter = rank > 0 ? [await place(inputs["a"]!, true), await place(inputs["b"]!, true)] : [];
  const multiply = kernel(productBody(k), m, n);
  const down = kernel(productBody(k), m, rank);
  const both = kernel(lowRankBody(k, rank, attributes["scale"] ?? 1), m, n);
  const result = async (): Promise<unknown> =>
    family === "product" ? multiply(x, w) : both(x, w, await down(x, adapter[0]), adapter[1]);
  return {
    async run() {
      const y = await result();
      // In this mode results are handles.
      if (isOnGpu) await (y as GpuJsHandle).context.device.queue.onSubmittedWorkDone();
    },
    async outputs() {
      const y = await result();
      // In the mode "webgpu" results are handles, otherwise arrays of rows.
      return [flat(isOnGpu ? await (y as GpuJsHandle).toArray() : (y as ArrayLike<number>[]))];
    },
    dispose: () => undefined,
  };
}

const productBody = (k: number): string => `function (a, b) {
  let sum = 0;
  for (let i = 0; i < ${k}; i++) sum += a[this.thread.y][i] * b[i][this.thread.x];
  return sum;
}`;

const lowRankBody = (k: number, rank: number, scale: number): string => `function (a, b, z, up) {
  let sum = 0;
  for (let i = 0; i < ${k}; i++) sum += a[this.thread.y][i] * b[i][this.thread.x];
  let low = 0;
  for (let i = 0; i < ${rank}; i++) low += z[this.thread.y][i] * up[i][this.thread.x];
  return sum + low * ${scale};
}`;

/** A matrix as the array of rows that gpu.js takes, or its transpose. */
function rowsOf({ shape: [rows = 0, columns = 0], data }: Input, isTransposed: boolean): Float32Array[] {
  // All operands of products are f32.
  const values = data as Float32Array;
  if (!isTransposed) return Array.from({ length: rows }, (_, i) => values.subarray(i * columns, (i + 1) * columns));
  return Array.from({ length: columns }, (_, j) =>
    Float32Array.from({ length: rows }, (_, i) => values[i * columns + j]!),
  );
}

function flat(rows: ArrayLike<ArrayLike<number> | number>): Float32Array {
  return Float32Array.from(Array.from(rows).flatMap((row) => (typeof row === "number" ? [row] : Array.from(row))));
}
