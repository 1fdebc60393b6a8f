import * as v from "valibot";
import { FileFormatError } from "../base/errors";
import { keyFault } from "../base/schema";
import type { Directory } from "./directory";

const SAVE_AGAIN = "Correct the file, or save it again with the library that wrote it.";

/** Decodes UTF-8, without a byte order mark. @throws FileFormatError for anything else. */
export function decodeText(bytes: Uint8Array, where: string): string {
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch (cause) {
    const remedy = "The file is damaged, or not a text file: download it again.";
    throw new FileFormatError(`${where} is not valid UTF-8.`, remedy, { cause });
  }
}

/** Parses JSON. @throws FileFormatError if the bytes are not JSON. */
export function parseJson(bytes: Uint8Array, where: string): unknown {
  const text = decodeText(bytes, where);
  try {
    const value: unknown = JSON.parse(text);
    return value;
  } catch (cause) {
    throw new FileFormatError(
      `${where} is not valid JSON: ${oneLine(String(cause))}.`,
      "The file is damaged or truncated: download it again.",
      { cause },
    );
  }
}

/** Reads a JSON file that contains an object. @throws FileFormatError naming the file, the key and what is wrong with it. */
export async function readJson<Schema extends v.GenericSchema>(
  directory: Directory,
  file: string,
  schema: Schema,
): Promise<v.InferOutput<Schema>> {
  const where = `${file} in ${directory.name}`;
  const value = parseJson(await directory.read(file), where);
  // Schemas of objects accept arrays.
  if (Array.isArray(value)) throw new FileFormatError(`${where} contains an array, not an object.`, SAVE_AGAIN);
  return checkSchema(schema, value, where);
}

/** Checks a value. @throws FileFormatError naming the file, the key and what is wrong with it. */
export function checkSchema<Schema extends v.GenericSchema>(
  schema: Schema,
  value: unknown,
  where: string,
): v.InferOutput<Schema> {
  const result = v.safeParse(schema, value, { abortEarly: true });
  if (result.success) return result.output;
  const [issue] = result.issues;
  const path = oneLine(v.getDotPath(issue) ?? "");
  const fault = path === "" ? undefined : keyFault(issue);
  if (fault === "missing") throw new FileFormatError(`${where}: ${path} is missing.`, SAVE_AGAIN);
  if (fault) throw new FileFormatError(`${where}: ${path} is not one of its keys.`, SAVE_AGAIN);
  throw new FileFormatError(`${where}: ${path && `${path}: `}${oneLine(issue.message)}.`, SAVE_AGAIN);
}

/** Foreign text for an error message: at most 200 characters, with spaces in place of line breaks and control characters. */
export function oneLine(text: string): string {
  return text.slice(0, 200).replace(/[\p{Cc}\u2028\u2029]+/gu, " ");
}

/** Encodes a value as indented JSON. Keys keep their order. */
export function jsonBytes(value: unknown): Uint8Array {
  return new TextEncoder().encode(`${JSON.stringify(value, null, 2)}\n`);
}
