import type { Random } from "../../src/base/random";

/** Replacement values, as JSON text, since JavaScript has no values for some of them. */
const ODD_VALUES = [
  ...["null", "true", "-1", "0", "-0", "1.5", "2147483648", "9007199254740992", "1e308", "1e999", "-1e999"],
  ...['""', '"x"', "[]", "{}", "[null]", "[[1,2]]", '{"length":1000000000}', '"\\u0000"', '"\\ud800"'],
  ...['"../x"', '"/etc/passwd"', '"a/b.safetensors"', '"__proto__"', '"constructor"', '"toString"'],
  ...['".*.*.*.*x"', '"(a*)*b"', `"${"(".repeat(50)}"`, `${"[".repeat(200)}${"]".repeat(200)}`],
  ...['{"__proto__":{"polluted":1}}', '{"constructor":{"prototype":{"polluted":1}}}', '{"valueOf":1,"toString":2}'],
];
const ODD_KEYS = [
  "__proto__",
  "constructor",
  "prototype",
  "length",
  "toString",
  "",
  "0",
  "-1",
  "a.b",
  "\u0000",
  "../x",
];
const encoder = new TextEncoder();
/** Deeper texts are not mutated: whether the stack suffices for them depends on the caller, but inputs must not. */
const MAX_DEPTH = 500;

/** Replaces, removes, renames, repeats or nests one to three values of a JSON text. Other bytes are returned unchanged. */
export function mutatedJson(bytes: Uint8Array, random: Random): Uint8Array {
  let value: Json;
  try {
    const source = new TextDecoder().decode(bytes);
    if (depthOf(source) > MAX_DEPTH) return bytes;
    value = parse(source);
  } catch {
    return bytes;
  }
  const count = 1 + random.below(3);
  for (let i = 0; i < count; i++) value = changed(value, random);
  return encoder.encode(text(value));
}

/** Largest number of brackets that are open at the same time, including brackets in strings. */
function depthOf(source: string): number {
  let [depth, maxDepth] = [0, 0];
  for (const character of source) {
    if (character === "[" || character === "{") maxDepth = Math.max(maxDepth, ++depth);
    else if (character === "]" || character === "}") depth--;
  }
  return maxDepth;
}

/** A JSON value. Members are a list, so that keys can occur twice; scalars are JSON text. */
type Json = { readonly members: readonly (readonly [string, Json])[] } | { readonly items: readonly Json[] } | string;

function parse(source: string): Json {
  const convert = (value: unknown): Json => {
    if (Array.isArray(value)) return { items: value.map(convert) };
    if (value === null || typeof value !== "object") return JSON.stringify(value);
    return { members: Object.entries(value).map(([key, part]) => [key, convert(part)]) };
  };
  return convert(JSON.parse(source));
}

function text(value: Json): string {
  if (typeof value === "string") return value;
  if ("items" in value) return `[${value.items.map(text).join(",")}]`;
  return `{${value.members.map(([key, part]) => `${JSON.stringify(key)}:${text(part)}`).join(",")}}`;
}

/** Changes the value at a random position. The descent stops at each level with probability 1/3. */
function changed(value: Json, random: Random): Json {
  if (typeof value === "string" || random.below(3) === 0) return replaced(value, random);
  if ("items" in value) {
    if (value.items.length === 0) return replaced(value, random);
    const at = random.below(value.items.length);
    return { items: value.items.map((item, i) => (i === at ? changed(item, random) : item)) };
  }
  if (value.members.length === 0) return replaced(value, random);
  const at = random.below(value.members.length);
  return { members: value.members.flatMap((member, i) => (i === at ? changedMember(member, random) : [member])) };
}

function changedMember([key, value]: readonly [string, Json], random: Random): (readonly [string, Json])[] {
  const oddKey = ODD_KEYS[random.below(ODD_KEYS.length)]!;
  switch (random.below(8)) {
    case 0:
      return [];
    case 1:
      return [[oddKey, value]];
    case 2:
      return [
        [key, value],
        [oddKey, ODD_VALUES[random.below(ODD_VALUES.length)]!],
      ];
    case 3:
      return [
        [key, value],
        [key, changed(value, random)],
      ];
    default:
      return [[key, changed(value, random)]];
  }
}

function replaced(value: Json, random: Random): Json {
  switch (random.below(8)) {
    case 0:
      return { items: [value] };
    case 1:
      return { members: [[ODD_KEYS[random.below(ODD_KEYS.length)]!, value]] };
    case 2:
      return { items: [value, value] };
    default:
      return ODD_VALUES[random.below(ODD_VALUES.length)]!;
  }
}
