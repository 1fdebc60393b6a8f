import fc from "fast-check";

const encoder = new TextEncoder();

/** Makes fast-check print these bytes as text if they are a counterexample. */
function readable(bytes: Uint8Array): Uint8Array {
  const text = new TextDecoder("latin1").decode(bytes);
  return Object.assign(bytes, {
    [fc.toStringMethod]: () => JSON.stringify(text.length > 400 ? `${text.slice(0, 400)}...` : text),
  });
}

/** Arbitrary copies of a file with one to four edits that replace, remove or insert bytes, or cut off the end. */
export function mutated(original: Uint8Array): fc.Arbitrary<Uint8Array> {
  const at = fc.nat(Math.max(0, original.length - 1));
  const edit = fc.oneof(
    fc.record({ at, remove: fc.constant(1), insert: fc.uint8Array({ minLength: 1, maxLength: 1 }) }),
    fc.record({ at, remove: fc.nat(20), insert: fc.uint8Array({ maxLength: 8 }) }),
    fc.record({ at, remove: fc.nat(3), insert: fc.constantFrom(...TOKENS).map((token) => encoder.encode(token)) }),
    fc.record({ at, remove: fc.constant(original.length), insert: fc.constant(new Uint8Array(0)) }),
  );
  return fc.array(edit, { minLength: 1, maxLength: 4 }).map((edits) =>
    readable(
      edits.reduce((bytes, { at, remove, insert }) => {
        return new Uint8Array([...bytes.subarray(0, at), ...insert, ...bytes.subarray(at + remove)]);
      }, original),
    ),
  );
}

const TOKENS = [
  "-",
  "9",
  "e99",
  "0",
  "null",
  "[]",
  "{}",
  '"',
  "\\",
  ",",
  "1.5",
  "true",
  "../",
  "\n",
  "\t",
  '"__proto__":{}',
];

/** Arbitrary copies of a JSON file with one to three values, at any depth, replaced by odd ones. */
export function mutatedJson(original: unknown): fc.Arbitrary<Uint8Array> {
  const paths = pathsOf(original);
  const oddValue = fc.oneof(
    fc.constantFrom(...ODD),
    fc.constantFrom(
      "../x",
      "/etc/passwd",
      "x/y.safetensors",
      ".*.*.*.*x",
      "(a*)*b",
      "\u0000",
      "__proto__",
      "(".repeat(50),
    ),
    fc.jsonValue({ maxDepth: 2 }),
  );
  const edit = fc.record({ path: fc.constantFrom(...paths), value: oddValue });
  return fc.array(edit, { minLength: 1, maxLength: 3 }).map((edits) => {
    const copy: unknown = JSON.parse(JSON.stringify(original));
    return readable(
      encoder.encode(JSON.stringify(edits.reduce((json, { path, value }) => replaceAt(json, path, value), copy))),
    );
  });
}

const ODD = [
  null,
  -1,
  0,
  1.5,
  2 ** 31,
  2 ** 53,
  1e308,
  -0,
  true,
  "",
  "x",
  [],
  {},
  [null],
  { length: 1e9 },
  [[1, 2]],
] as const;

function pathsOf(value: unknown, path: readonly string[] = []): (readonly string[])[] {
  if (value === null || typeof value !== "object") return [path];
  return [path, ...Object.entries(value).flatMap(([key, part]) => pathsOf(part, [...path, key]))];
}

function replaceAt(value: unknown, [key, ...rest]: readonly string[], replacement: unknown): unknown {
  if (key === undefined) return structuredClone(replacement);
  // An earlier edit may have removed the path.
  if (value === null || typeof value !== "object" || !hasKey(value, key)) return value;
  const part = replaceAt(value[key], rest, replacement);
  // Unlike an assignment, this defines keys such as __proto__ as ordinary properties.
  return Object.defineProperty(value, key, { value: part, enumerable: true, configurable: true, writable: true });
}

const hasKey = <K extends string>(value: object, key: K): value is Record<K, unknown> =>
  Object.prototype.propertyIsEnumerable.call(value, key);
