import { KernelError } from "../base/errors";
import type { Kernel } from "../op/kernel";

/** A message of the WGSL compiler. Lines and columns count from 1; 0 means that the message has no position. */
export interface CompilerMessage {
  readonly message: string;
  readonly lineNum: number;
  readonly linePos: number;
}

const REMEDY = "Fix the kernel: every .wgsl file must compile as it is.";

/**
 * The error for a module that does not compile, with file, line, column and the lines around it. Every kernel is one file
 * whose constants are replaced within their lines, so the module's line numbers are those of the file.
 */
export function compileError(
  { name }: Kernel,
  code: string,
  { message, lineNum, linePos }: CompilerMessage,
): KernelError {
  const position = [`kernels/${name}.wgsl`, ...(lineNum > 0 ? [lineNum, linePos] : [])].join(":");
  const excerpt = lineNum > 0 ? `\n${linesAround(code, lineNum, linePos)}` : "";
  return new KernelError(`${position}: ${message}${excerpt}`, REMEDY);
}

/** The error for a module that compiles but whose entry point the driver refuses, with the entry's line. */
export function pipelineError({ name }: Kernel, code: string, entry: string, cause: Error): KernelError {
  const codeBefore = code.slice(0, Math.max(0, code.search(new RegExp(`\\bfn ${entry}\\b`))));
  const line = codeBefore.split("\n").length;
  return new KernelError(
    `kernels/${name}.wgsl:${line}: no pipeline for entry ${entry}: ${cause.message}\n${linesAround(code, line)}`,
    "Check the entry's name, its workgroup size and the adapter's limits.",
    { cause },
  );
}

/** A line with its number and its neighbours, and a mark under its column (if that is above 0). */
function linesAround(code: string, line: number, column = 0): string {
  const lines = code.split("\n");
  const first = Math.max(1, line - 1);
  const width = String(line + 1).length;
  return lines
    .slice(first - 1, line + 1)
    .flatMap((text, i) => {
      const number = first + i;
      const numbered = `${String(number).padStart(width)} | ${text}`;
      return number === line && column > 0
        ? [numbered, `${" ".repeat(width)} | ${" ".repeat(column - 1)}^`]
        : [numbered];
    })
    .join("\n");
}
