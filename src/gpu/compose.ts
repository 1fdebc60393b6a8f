import { KernelError } from "../base/errors";
import type { Kernel } from "../op/kernel";

/** A line of a composed kernel: the file under `kernels/` that it comes from, and its number there, from 1. */
export interface Origin {
  readonly file: string;
  readonly line: number;
}

/** The text that is compiled for a kernel: its file, with parts in place of imports. */
export interface ComposedKernel {
  readonly code: string;
  /** The origin of every line of `code`. */
  readonly origins: readonly Origin[];
}

const IMPORT = /^#import (\S+)$/;

const cache = new WeakMap<Kernel, ComposedKernel>();

/**
 * Replaces every `#import` of a kernel by the part that it names. A part that several files import is inserted once, at
 * its first import.
 * @throws KernelError for an import of a part that the kernel does not come with, or if the kernel's text is not loaded.
 */
export function composeKernel(kernel: Kernel): ComposedKernel {
  const composed = cache.get(kernel) ?? join(kernel);
  cache.set(kernel, composed);
  return composed;
}

function join(kernel: Kernel): ComposedKernel {
  if (kernel.load) {
    throw new KernelError(`The text of kernels/${kernel.name}.wgsl is not loaded.`, "Await the kernel's `load` first.");
  }
  const lines: string[] = [];
  const origins: Origin[] = [];
  const inserted = new Set<string>();
  const insert = ({ name, code, imports = [] }: Kernel): void => {
    const file = `${name}.wgsl`;
    for (const [index, text] of code.split("\n").entries()) {
      const imported = IMPORT.exec(text)?.[1];
      if (imported === undefined) {
        lines.push(text);
        origins.push({ file, line: index + 1 });
        continue;
      }
      const part = kernel.substitutes?.[imported] ?? imports.find((candidate) => candidate.name === imported);
      if (!part) {
        throw new KernelError(
          `kernels/${file}:${index + 1}: there is no part ${imported}.`,
          "Import a file of kernels/lib, or give the kernel's `imports` a part of this name.",
        );
      }
      if (inserted.has(imported)) continue;
      inserted.add(imported);
      insert(part);
    }
  };
  insert(kernel);
  return { code: lines.join("\n"), origins };
}

// A block comment may contain others (WGSL, section 3.5); these patterns find where one begins and ends.
const COMMENT_MARK = /\/\/.*|\/\*|\*\//g;

/** WGSL text with spaces in place of comments, so that every other character keeps its position. */
export function withoutComments(code: string): string {
  let blanked = "";
  let depth = 0;
  let position = 0;
  const append = (end: number, isComment: boolean): void => {
    const text = code.slice(position, end);
    blanked += isComment ? text.replace(/[^\n]/g, " ") : text;
    position = end;
  };
  COMMENT_MARK.lastIndex = 0;
  for (let match = COMMENT_MARK.exec(code); match; match = COMMENT_MARK.exec(code)) {
    const [mark] = match;
    if (mark.startsWith("//") && depth > 0) {
      // Inside a block comment, a line comment has no meaning, but the rest of its line may end the block.
      COMMENT_MARK.lastIndex = match.index + 1;
      continue;
    }
    if (mark === "*/" && depth === 0) continue;
    append(match.index, depth > 0);
    append(match.index + mark.length, true);
    if (mark === "/*") depth++;
    if (mark === "*/") depth--;
  }
  append(code.length, depth > 0);
  return blanked;
}
