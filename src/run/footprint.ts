import { noBytes } from "../gpu/ledger";
import type { Bytes } from "../gpu/ledger";
import { packUniforms } from "../gpu/uniforms";
import { specBytes } from "../tape/emit";
import type { Plan, Port } from "../tape/plan";
import { reserve } from "../tape/reserve";

/** Bytes of the buffer through which a plan's outputs are read. */
export function readbackBytes(plan: Plan): number {
  return Math.max(
    4,
    [...plan.outputs.values()].reduce((sum, port) => sum + specBytes(port.spec), 0),
  );
}

/** Where each input of a staged plan lies in its staging buffer; empty for other plans. */
export function stagingLayout(plan: Plan): { name: string; port: Port; offset: number; bytes: number }[] {
  return plan.isStaged ? layout(plan.inputs) : [];
}

/** Bytes of a staged plan's staging buffer; 0 for other plans. */
export function stagingBytes(plan: Plan): number {
  return stagingLayout(plan).reduce((sum, { bytes }) => sum + bytes, 0);
}

/** Bytes of a plan's uniform blocks. */
export function uniformBytes(plan: Plan): number {
  return packUniforms(plan.launches.map(({ launch }) => launch)).data.byteLength;
}

/**
 * Bytes of an executor that holds some plans: the buffers that they share, and each plan's uniforms, readback buffer and
 * staging buffer. This is a pure function, which equals the ledger to the byte.
 */
export function executorBytes(plans: readonly Plan[]): Bytes {
  const bytes = noBytes();
  for (const buffer of reserve(plans)) bytes[buffer.saved ? "saved" : "scratch"] += buffer.bytes;
  for (const plan of plans) bytes.scratch += unsharedBytes(plan);
  return bytes;
}

/** Bytes of the buffers that a plan does not share. */
export const unsharedBytes = (plan: Plan): number => uniformBytes(plan) + readbackBytes(plan) + stagingBytes(plan);

/** Where each output lies in the readback buffer. */
export function readbackLayout(plan: Plan): { name: string; port: Port; offset: number; bytes: number }[] {
  return layout(plan.outputs);
}

function layout(ports: ReadonlyMap<string, Port>): { name: string; port: Port; offset: number; bytes: number }[] {
  let offset = 0;
  return [...ports].map(([name, port]) => {
    const bytes = specBytes(port.spec);
    const entry = { name, port, offset, bytes };
    offset += bytes;
    return entry;
  });
}
