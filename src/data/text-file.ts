import { DataError } from "../base/errors";
import type { Directory } from "../io/directory";

/** One line of a text file. Numbers start at 1. */
export interface Line {
  readonly number: number;
  readonly text: string;
}

/**
 * A UTF-8 file's lines, without line ends (LF or CRLF) or a byte order mark; empty lines at the end are dropped. Throws
 * DataError naming the line that is not UTF-8, and where the file is empty; FileFormatError where it is missing.
 */
export async function readLines(directory: Directory, file: string): Promise<Line[]> {
  return splitLines(await directory.read(file), `${file} in ${directory.name}`);
}

/** As readLines, for bytes; `where` names them in errors. */
export function splitLines(bytes: Uint8Array, where: string): Line[] {
  const text = decode(bytes, where);
  const lines = text.split("\n").map((line) => (line.endsWith("\r") ? line.slice(0, -1) : line));
  while (lines.at(-1)?.trim() === "") lines.pop();
  if (lines.length === 0) throw new DataError(`${where} is empty`, "give a file with at least one example");
  return lines.map((line, index) => ({ number: index + 1, text: line }));
}

/** A DataError about one line: "FILE in DIRECTORY, line 7: FACT". */
export function lineError(where: string, line: number, fact: string, remedy: string): DataError {
  return new DataError(`${where}, line ${line}: ${fact}`, remedy);
}

function decode(bytes: Uint8Array, where: string): string {
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch {
    throw lineError(where, firstBadLine(bytes), "not valid UTF-8", "save the file as UTF-8");
  }
}

function firstBadLine(bytes: Uint8Array): number {
  const decoder = new TextDecoder("utf-8", { fatal: true });
  let line = 1;
  for (let start = 0; start < bytes.length; line++) {
    const found = bytes.indexOf(0x0a, start);
    const end = found < 0 ? bytes.length : found + 1;
    try {
      decoder.decode(bytes.subarray(start, end));
    } catch {
      return line;
    }
    start = end;
  }
  return line;
}
