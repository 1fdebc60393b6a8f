import type { Op } from "../../op/declaration";
import { OPS } from "../../testing/ops";
import { nearestNames } from "../../base/nearest";
import { UsageError } from "../options";
import { exportsOf } from "../plugin/module";

/** The ops that `safetape bench` times: all, a named one, or those that a module exports. @throws UsageError if there are none. */
export async function subjectOps(what: string | undefined): Promise<readonly Op[]> {
  if (what === undefined) return OPS;
  if (/[\\/]|\.[cm]?[jt]s$/.test(what)) return opsOfModule(what);
  return [shippedOp(what)];
}

/** @throws UsageError for a name that no op has, with the nearest names. */
export function shippedOp(name: string): (typeof OPS)[number] {
  const op = OPS.find((candidate) => candidate.name === name);
  if (op) return op;
  const names = OPS.map((candidate) => candidate.name);
  throw new UsageError(
    `There is no op ${name.slice(0, 200)}.`,
    `The nearest are ${nearestNames(name, names).join(", ")}.`,
  );
}

async function opsOfModule(file: string): Promise<readonly Op[]> {
  const exported = await exportsOf(file, "a module that exports ops made by defineOp");
  // An op may be exported by its name and as the default.
  const ops = [...new Set(Object.values(exported))].filter(isOp);
  if (ops.length > 0) return ops;
  throw new UsageError(
    `${file} exports no op.`,
    "Export what defineOp returns: export const softSign = defineOp({ ... }).",
  );
}

const REQUIRED: Readonly<Record<string, (value: unknown) => boolean>> = {
  name: (value) => typeof value === "string",
  inputs: (value) => typeof value === "object" && value !== null,
  outputs: Array.isArray,
  infer: (value) => typeof value === "function",
  forward: (value) => typeof value === "function",
  gradients: Array.isArray,
  flops: (value) => typeof value === "function",
};

const isOp = (value: unknown): value is Op =>
  typeof value === "object" &&
  value !== null &&
  // Any object has properties by name, of unknown types.
  Object.entries(REQUIRED).every(([key, isRight]) => isRight((value as Readonly<Record<string, unknown>>)[key]));
