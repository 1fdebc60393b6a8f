import { DataError } from "../base/errors";
import type { Directory } from "../io/directory";

/** A line of a text file. */
export interface Line {
  /** Counted from 1. */
  readonly number: number;
  readonly text: string;
}

/**
 * Reads the lines of a UTF-8 file, without line ends (LF or CRLF) and byte order mark. Blank lines at the end are dropped.
 * @throws DataError for an empty file, and with the line for text that is not UTF-8; FileFormatError if the file is missing.
 */
export async function readLines(directory: Directory, file: string): Promise<Line[]> {
  return splitLines(await directory.read(file), `${file} in ${directory.name}`);
}

/** The lines of a file's bytes. Throws as `readLines` does. @param where name of the file in errors. */
export function splitLines(bytes: Uint8Array, where: string): Line[] {
  const text = decode(bytes, where);
  const lines = text.split("\n").map((line) => (line.endsWith("\r") ? line.slice(0, -1) : line));
  while (lines.at(-1)?.trim() === "") lines.pop();
  if (lines.length === 0) throw new DataError(`${where} is empty`, "give a file with at least one example");
  return lines.map((line, index) => ({ number: index + 1, text: line }));
}

/** Receives what is wrong with a line, by its number from 1; the line is then left out. */
export type OnBadLine = (error: DataError, line: number) => void;

/** A DataError about a line: "FILE in DIRECTORY, line 7: FACT". */
export function lineError(
  where: string,
  line: number,
  fact: string,
  remedy: string,
  options?: ErrorOptions,
): DataError {
  return new DataError(`${where}, line ${line}: ${fact}`, remedy, options);
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
    const lineEnd = bytes.indexOf(0x0a, start);
    const end = lineEnd < 0 ? bytes.length : lineEnd + 1;
    try {
      decoder.decode(bytes.subarray(start, end));
    } catch {
      return line;
    }
    start = end;
  }
  return line;
}
