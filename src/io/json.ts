import * as v from "valibot";
import { FileFormatError } from "../base/errors";
import type { Directory } from "./directory";

const SAVE_AGAIN = "correct the file, or save it again with the library that made it";

/** Bytes as text. Throws FileFormatError where they are not UTF-8. A byte order mark is dropped. */
export function decodeText(bytes: Uint8Array, where: string): string {
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch (cause) {
    throw new FileFormatError(
      `${where} is not valid UTF-8`,
      "the file is damaged, or not a text file: fetch it again",
      {
        cause,
      },
    );
  }
}

/** Bytes as JSON. Throws FileFormatError where they are not. */
export function parseJson(bytes: Uint8Array, where: string): unknown {
  const text = decodeText(bytes, where);
  try {
    return JSON.parse(text) as unknown;
  } catch (cause) {
    throw new FileFormatError(
      `${where} is not valid JSON: ${oneLine((cause as Error).message)}`,
      "the file is damaged or truncated: fetch it again",
      { cause },
    );
  }
}

/** A JSON file that holds one object, and fits a schema. Throws FileFormatError naming the file, the key and what is wrong with it. */
export async function readJson<Schema extends v.GenericSchema>(
  directory: Directory,
  file: string,
  schema: Schema,
): Promise<v.InferOutput<Schema>> {
  const where = `${file} in ${directory.name}`;
  const value = parseJson(await directory.read(file), where);
  // Schemas of objects let lists through.
  if (Array.isArray(value)) throw new FileFormatError(`${where} holds a list, not an object`, SAVE_AGAIN);
  return checkSchema(schema, value, where);
}

/** The value, checked. Throws FileFormatError naming the place, the key and what is wrong with it. */
export function checkSchema<Schema extends v.GenericSchema>(
  schema: Schema,
  value: unknown,
  where: string,
): v.InferOutput<Schema> {
  const result = v.safeParse(schema, value, { abortEarly: true });
  if (result.success) return result.output;
  const [issue] = result.issues;
  const path = v.getDotPath(issue);
  throw new FileFormatError(
    `${where}: ${path === null ? "" : `${oneLine(path)}: `}${oneLine(issue.message)}`,
    SAVE_AGAIN,
  );
}

/** Text from elsewhere as part of an error's one line: control characters become spaces, and it is cut at 200. */
export function oneLine(text: string): string {
  return text.slice(0, 200).replace(/[\p{Cc}\u2028\u2029]+/gu, " ");
}

/** A value as the bytes of a JSON file that people can read. Keys keep their order. */
export function jsonBytes(value: unknown): Uint8Array {
  return new TextEncoder().encode(`${JSON.stringify(value, null, 2)}\n`);
}
