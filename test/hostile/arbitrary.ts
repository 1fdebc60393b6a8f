import fc from "fast-check";

const encoder = new TextEncoder();

/** Prints a counterexample as text. */
function readable(bytes: Uint8Array): Uint8Array {
  const text = new TextDecoder("latin1").decode(bytes);
  return Object.assign(bytes, {
    [fc.toStringMethod]: () => JSON.stringify(text.length > 400 ? `${text.slice(0, 400)}...` : text),
  });
}

/** Bytes changed, removed, repeated and inserted, a few at a time. */
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
        const result = new Uint8Array([...bytes.subarray(0, at), ...insert, ...bytes.subarray(at + remove)]);
        return result;
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

/** Odd JSON values in place of those of a file, at any depth. */
export function mutatedJson(original: unknown): fc.Arbitrary<Uint8Array> {
  const paths = pathsOf(original);
  const odd = fc.oneof(
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
  const edit = fc.record({ path: fc.constantFrom(...paths), value: odd });
  return fc.array(edit, { minLength: 1, maxLength: 3 }).map((edits) => {
    const copy: unknown = JSON.parse(JSON.stringify(original));
    return readable(
      encoder.encode(JSON.stringify(edits.reduce((value, { path, value: v }) => replaceAt(value, path, v), copy))),
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

function replaceAt(value: unknown, [key, ...rest]: readonly string[], by: unknown): unknown {
  if (key === undefined) return structuredClone(by);
  // An earlier edit may have taken the place away. Keys such as __proto__ are set as what they are here: names.
  if (value === null || typeof value !== "object" || !isPlace(value, key)) return value;
  const part = replaceAt((value as Record<string, unknown>)[key], rest, by);
  return Object.defineProperty(value, key, { value: part, enumerable: true, configurable: true, writable: true });
}

const isPlace = (value: object, key: string): boolean => Object.prototype.propertyIsEnumerable.call(value, key);
