import { KernelError } from "../base/errors";
import type { Kernel } from "../op/kernel";
import { composeKernel, withoutComments } from "./compose";

/** A message of the WGSL compiler. Lines and columns count from 1; 0 means that the message has no position. */
export interface CompilerMessage {
  readonly message: string;
  readonly lineNum: number;
  readonly linePos: number;
}

const REMEDY = "Fix the kernel: every .wgsl file must compile as it is.";

/**
 * The error for a module that does not compile, with file, line, column and the lines around it.
 * @param code what was compiled: the composed kernel, whose constants are replaced within their lines.
 */
export function compileError(
  kernel: Kernel,
  code: string,
  { message, lineNum, linePos }: CompilerMessage,
): KernelError {
  const origin = composeKernel(kernel).origins[lineNum - 1];
  if (!origin) return new KernelError(`kernels/${kernel.name}.wgsl: ${message}`, REMEDY);
  const excerpt = linesAround(kernel, code, lineNum, linePos);
  return new KernelError(`kernels/${origin.file}:${origin.line}:${linePos}: ${message}\n${excerpt}`, REMEDY);
}

/** The error for a module that compiles but whose entry point the driver refuses, with the entry's line. */
export function pipelineError(kernel: Kernel, code: string, entry: string, cause: Error): KernelError {
  const start = withoutComments(code).search(new RegExp(`\\bfn ${entry}\\b`));
  const line = code.slice(0, Math.max(0, start)).split("\n").length;
  const origin = composeKernel(kernel).origins[line - 1]!;
  return new KernelError(
    `kernels/${origin.file}:${origin.line}: no pipeline for entry ${entry}: ${cause.message}\n${linesAround(kernel, code, line)}`,
    "Check the entry's name, its workgroup size and the adapter's limits.",
    { cause },
  );
}

/** A line with its number and its neighbours in the same file, and a mark under its column (if that is above 0). */
function linesAround(kernel: Kernel, code: string, line: number, column = 0): string {
  const { origins } = composeKernel(kernel);
  const { file } = origins[line - 1]!;
  const neighbours = code
    .split("\n")
    .map((text, index) => ({ text, number: origins[index]?.line ?? 0, index }))
    .slice(Math.max(0, line - 2), line + 1)
    .filter(({ index }) => origins[index]?.file === file);
  const width = Math.max(...neighbours.map(({ number }) => String(number).length));
  return neighbours
    .flatMap(({ text, number, index }) => {
      const numbered = `${String(number).padStart(width)} | ${text}`;
      return index === line - 1 && column > 0
        ? [numbered, `${" ".repeat(width)} | ${" ".repeat(column - 1)}^`]
        : [numbered];
    })
    .join("\n");
}
