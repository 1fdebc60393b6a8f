import { KernelError } from "../base/errors";
import type { Launch } from "../op/launch";
import { paramsOf } from "./wgsl";

/** The uniform blocks of some launches in one buffer. Equal blocks are stored once. */
export interface Uniforms {
  readonly data: Uint8Array<ArrayBuffer>;
  /** First byte of each launch's block, and its bytes. */
  readonly offsets: readonly number[];
  readonly sizes: readonly number[];
}

/** WebGPU's guaranteed `minUniformBufferOffsetAlignment`. */
const BLOCK_ALIGNMENT = 256;

/** Packs the `params` of some launches. @throws KernelError when a field of `Params` is missing or unknown. */
export function packUniforms(launches: readonly Launch[]): Uniforms {
  const offsetOf = new Map<string, number>();
  const blocks: Uint8Array[] = [];
  const offsets: number[] = [];
  const sizes: number[] = [];
  let end = 0;
  for (const launch of launches) {
    const block = packBlock(launch);
    const key = block.join(",");
    const existing = offsetOf.get(key);
    offsets.push(existing ?? end);
    sizes.push(block.byteLength);
    if (existing !== undefined) continue;
    offsetOf.set(key, end);
    blocks.push(block);
    end += Math.ceil(block.byteLength / BLOCK_ALIGNMENT) * BLOCK_ALIGNMENT;
  }
  const data = new Uint8Array(Math.max(end, BLOCK_ALIGNMENT));
  let offset = 0;
  for (const block of blocks) {
    data.set(block, offset);
    offset += Math.ceil(block.byteLength / BLOCK_ALIGNMENT) * BLOCK_ALIGNMENT;
  }
  return { data, offsets, sizes };
}

function packBlock(launch: Launch): Uint8Array {
  const params = paramsOf(launch.kernel);
  const unknown = Object.keys(launch.params).find((name) => !params.some((field) => field.name === name));
  const missing = params.find((field) => launch.params[field.name] === undefined);
  if (unknown !== undefined || missing) {
    throw new KernelError(
      `kernels/${launch.kernel.name}.wgsl (${launch.entry}): Params ${missing ? `lacks ${missing.name}` : `has no ${String(unknown)}`}.`,
      "Let the launch give exactly the fields of the kernel's Params struct.",
    );
  }
  const view = new DataView(new ArrayBuffer(Math.ceil(Math.max(1, params.length) / 4) * 16));
  params.forEach(({ name, type }, i) => {
    const value = launch.params[name]!;
    if (type === "f32") view.setFloat32(i * 4, value, true);
    else if (type === "i32") view.setInt32(i * 4, value, true);
    else view.setUint32(i * 4, value, true);
  });
  return new Uint8Array(view.buffer);
}
