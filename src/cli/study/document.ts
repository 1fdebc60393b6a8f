import { basename, dirname } from "node:path";
import * as v from "valibot";
import { nearestNames } from "../../base/nearest";
import { keyFault } from "../../base/schema";
import { oneLine } from "../../io/json";
import { openDirectory } from "../../node/directory";
import { UsageError } from "../options";
import { parseYaml } from "../yaml-file";
import type { Place } from "../yaml-file";

const KIND = { noun: "a study", syntax: "Write an object in JSON, or the same in YAML." };

/** A study's file, checked by its schema. */
export interface StudyDocument<Output> {
  readonly value: Output;
  /** File and line of what is at a place. */
  readonly where: (place: Place) => string;
  /** The error for what is wrong at a place. */
  readonly fault: (place: Place, fact: string, remedy: string, cause?: unknown) => UsageError;
}

/**
 * Reads a study's file in JSON or YAML.
 * @throws UsageError with file and line for what is neither, and for a key or a value that the schema does not have.
 */
export async function readDocument<Schema extends v.GenericSchema>(
  path: string,
  schema: Schema,
): Promise<StudyDocument<v.InferOutput<Schema>>> {
  const bytes = await (await openDirectory(dirname(path))).read(basename(path));
  const { contents, where } = parseYaml(bytes, path, KIND);
  const fault: StudyDocument<unknown>["fault"] = (place, fact, remedy, cause) =>
    new UsageError(`${where(place)}: ${fact}`, remedy, { cause });
  const given: unknown = contents?.toJSON() ?? null;
  const result = v.safeParse(schema, given, { abortEarly: true });
  if (result.success && !Array.isArray(given)) return { value: result.output, where, fault };
  // A key that is written wrong is also one that is missing, and is then told.
  const misspelt = v.safeParse(schema, given).issues?.find((each) => keyFault(each) === "unknown");
  const issue = misspelt ?? result.issues?.[0];
  const place = issue?.path?.map(({ key }) => (typeof key === "number" ? key : String(key))) ?? [];
  if (!issue || place.length === 0) throw fault([], "the file is no mapping with the keys of a study.", KIND.syntax);
  const name = oneLine(place.join("."));
  const kind = keyFault(issue);
  if (kind === "missing") throw fault(place, `${name} is missing.`, "Add it.");
  if (kind !== "unknown") throw fault(place, `${name}: ${oneLine(issue.message)}.`, "Correct it.");
  const known = keysAt(schema, place.slice(0, -1));
  throw fault(
    place,
    `${name} is not one of the keys there.`,
    known.length > 0 ? `The nearest are ${nearestNames(String(place.at(-1)), known).join(", ")}.` : "Remove it.",
  );
}

/** What schemas of valibot have inside, as far as a study's are built of them. */
interface Nested {
  readonly entries?: Readonly<Record<string, Nested>>;
  readonly item?: Nested;
  readonly wrapped?: Nested;
  readonly pipe?: readonly Nested[];
}

/** The keys that a schema has at a place; none where it does not say. */
function keysAt(schema: unknown, place: Place): string[] {
  // A schema of valibot, whose parts have no common type.
  let nested = opened(schema as Nested);
  for (const step of place) nested = opened(typeof step === "number" ? nested?.item : nested?.entries?.[step]);
  return Object.keys(nested?.entries ?? {});
}

/** The object or list within optional values and pipes, of which the last one describes what the others make. */
function opened(schema: Nested | undefined): Nested | undefined {
  if (!schema || schema.entries || schema.item) return schema?.pipe ? (lastOf(schema.pipe) ?? schema) : schema;
  return opened(schema.wrapped) ?? (schema.pipe && lastOf(schema.pipe));
}

const lastOf = (pipe: readonly Nested[]): Nested | undefined =>
  pipe
    .slice(1)
    .map(opened)
    .findLast((part) => part?.entries || part?.item);
