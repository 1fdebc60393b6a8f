import * as v from "valibot";

// What devices say of themselves and ask the leader, and how it is compared.

/** Number of the messages' form. Devices of different ones do not train together. */
export const VERSION = 1;

/** What a device says of itself, again and again. */
export const SELF = v.strictObject({
  state: v.picklist(["waiting", "synced", "left"]),
  leads: v.boolean(),
  round: v.pipe(v.number(), v.safeInteger(), v.minValue(0)),
  rows: v.pipe(v.number(), v.safeInteger(), v.minValue(1)),
  gpu: v.string(),
  /** Digest of the run's identity. */
  identity: v.string(),
});
export type Self = v.InferOutput<typeof SELF>;

/** What a device asks the leader for. */
const IDENTITY = v.record(v.string(), v.string());
export const QUESTION = v.strictObject({
  what: v.picklist(["enter", "state"]),
  version: v.number(),
  identity: IDENTITY,
});

export const ANSWER = v.strictObject({
  refused: v.optional(v.string()),
  version: v.optional(v.number()),
  identity: v.optional(IDENTITY),
  /** Number of the log's last message before the state. */
  sequence: v.optional(v.number()),
  /** Name of the object that has the state. */
  object: v.optional(v.string()),
});

export const REFUSAL = v.strictObject({ fact: v.string(), needsState: v.boolean() });

/** A record's entries in the order of their names. */
export const sorted = (record: Readonly<Record<string, string>>): [string, string][] =>
  Object.entries(record).sort(([a], [b]) => (a < b ? -1 : 1));

/** What differs between the run of this name and this device. */
export function difference(
  name: string,
  run: Readonly<Record<string, string>>,
  own: Readonly<Record<string, string>>,
): string {
  const [first = "", ...others] = [...new Set([...Object.keys(run), ...Object.keys(own)])].filter(
    (key) => run[key] !== own[key],
  );
  const also = others.length > 0 ? `; ${others.slice(0, 5).join(", ")} differ as well` : "";
  const shown = (value = "not set"): string => value.slice(0, 80);
  return `The run ${name} is another one: ${first} is ${shown(run[first])} there and ${shown(own[first])} here${also}.`;
}
