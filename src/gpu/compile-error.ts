import { KernelError } from "../base/errors";
import type { Kernel } from "../op/kernel";

/** What a compiler says about a place in a kernel; 0 where it names none. */
export interface CompilerMessage {
  readonly message: string;
  /** From 1. */
  readonly lineNum: number;
  readonly linePos: number;
}

const REMEDY = "Mend the kernel; every .wgsl file must compile as it stands.";

/**
 * File, line and column of what a compiler refuses, with the line before it and the one after. Kernels stand alone and
 * their constants are replaced within their lines, so the lines of the module are those of the file.
 */
export function compileError(
  { name }: Kernel,
  code: string,
  { message, lineNum, linePos }: CompilerMessage,
): KernelError {
  const place = [`kernels/${name}.wgsl`, ...(lineNum > 0 ? [lineNum, linePos] : [])].join(":");
  const excerpt = lineNum > 0 ? `\n${linesAround(code, lineNum, linePos)}` : "";
  return new KernelError(`${place}: ${message}${excerpt}`, REMEDY);
}

/** What a driver refuses of a module that compiles, with the place of the entry. */
export function pipelineError({ name }: Kernel, code: string, entry: string, cause: Error): KernelError {
  const before = code.slice(0, Math.max(0, code.search(new RegExp(`\\bfn ${entry}\\b`))));
  const line = before.split("\n").length;
  return new KernelError(
    `kernels/${name}.wgsl:${line}: no pipeline for entry ${entry}: ${cause.message}\n${linesAround(code, line)}`,
    "Check the entry's name, its workgroup size and the adapter's limits.",
    { cause },
  );
}

/** Three numbered lines, and a mark under the column of the middle one. */
function linesAround(code: string, line: number, column = 0): string {
  const lines = code.split("\n");
  const first = Math.max(1, line - 1);
  const width = String(line + 1).length;
  return lines
    .slice(first - 1, line + 1)
    .flatMap((text, i) => {
      const number = first + i;
      const told = `${String(number).padStart(width)} | ${text}`;
      return number === line && column > 0 ? [told, `${" ".repeat(width)} | ${" ".repeat(column - 1)}^`] : [told];
    })
    .join("\n");
}
