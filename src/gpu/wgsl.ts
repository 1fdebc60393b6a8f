import { KernelError } from "../base/errors";
import type { Kernel } from "../op/kernel";
import { composeKernel, withoutComments } from "./compose";

/** A storage variable. */
export interface StorageBinding {
  readonly binding: number;
  readonly writable: boolean;
  /** The type of its elements, as the text has it. */
  readonly element: string;
}

/** What a kernel's text declares: binding numbers by variable, and the fields of its `params` in order. */
export interface KernelInterface {
  readonly bindings: ReadonlyMap<string, StorageBinding>;
  readonly params: readonly { readonly name: string; readonly type: "u32" | "i32" | "f32" }[];
  /** Bindings of uniform blocks: of `params`, if there is one, and of those of launches that an entry absorbs. */
  readonly uniforms: ReadonlyMap<string, number>;
}

const BINDING =
  /@group\(0\)\s*@binding\((\d+)\)\s*var<(storage|uniform)(?:,\s*(read_write|read))?>\s*(\w+)(?:\s*:\s*array<(\w+))?/g;
const PARAMS = /var<uniform> params: (\w+);/;
const FIELD = /(\w+)\s*:\s*(\w+)/g;

const cache = new WeakMap<Kernel, KernelInterface>();

/**
 * Reads a kernel's declarations. All kernels are written in the same style, so regular expressions suffice.
 * @throws KernelError for a field of its params with another type.
 */
export function kernelInterface(kernel: Kernel): KernelInterface {
  const parsed = cache.get(kernel) ?? parse(kernel);
  cache.set(kernel, parsed);
  return parsed;
}

function parse(kernel: Kernel): KernelInterface {
  const code = withoutComments(composeKernel(kernel).code);
  const bindings = new Map<string, StorageBinding>();
  const uniforms = new Map<string, number>();
  for (const [, number = "", space, access, name = "", element = ""] of code.matchAll(BINDING)) {
    if (space === "uniform") uniforms.set(name, Number(number));
    else bindings.set(name, { binding: Number(number), writable: access === "read_write", element });
  }
  return { bindings, params: paramsIn(code, kernel), uniforms };
}

/**
 * The fields of a kernel's `params` in order. A kernel whose text loads later has them at once, since plans count their bytes.
 * @throws KernelError for a field with another type.
 */
export const paramsOf = (kernel: Kernel): KernelInterface["params"] =>
  kernel.load ? paramsIn(kernel.code, kernel) : kernelInterface(kernel).params;

function paramsIn(code: string, { name: file }: Kernel): KernelInterface["params"] {
  const struct = PARAMS.exec(code)?.[1] ?? "";
  const body = new RegExp(`struct ${struct} \\{([^}]*)\\}`).exec(code)?.[1] ?? "";
  return [...body.matchAll(FIELD)].map(([, name = "", type = ""]) => {
    if (type !== "u32" && type !== "i32" && type !== "f32") {
      throw new KernelError(`kernels/${file}.wgsl: ${struct}.${name} is ${type}.`, "Use u32, i32 or f32.");
    }
    return { name, type } as const;
  });
}

/**
 * The text that is compiled for a kernel, with other values of some top-level constants. Its lines are those of the
 * composed kernel. @throws KernelError when a constant is not declared.
 */
export function withConstants(kernel: Kernel, constants: Readonly<Record<string, number>>): string {
  return Object.entries(constants).reduce((code, [name, value]) => {
    const declaration = new RegExp(`^const ${name}: u32 = \\d+u;`, "m").exec(withoutComments(code));
    if (!declaration) {
      throw new KernelError(
        `kernels/${kernel.name}.wgsl has no line "const ${name}: u32 = ...u;".`,
        "Declare the constant at the top level of the kernel or of a part, or leave it out of the launch.",
      );
    }
    const end = declaration.index + declaration[0].length;
    return `${code.slice(0, declaration.index)}const ${name}: u32 = ${value}u;${code.slice(end)}`;
  }, composeKernel(kernel).code);
}
