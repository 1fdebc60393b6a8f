/** A step of a normalizer, a pre-tokenizer, a post-processor or a decoder in tokenizer.json. */
type Step = Readonly<Record<string, unknown>>;

/** Maximum factor by which a text may grow before it is cut into tokens. Published tokenizers stay below 10. */
const MAX_GROWTH = 1024;
/** Maximum depth of steps within steps. Published tokenizers have two. */
const MAX_DEPTH = 32;
/** Maximum number of UTF-8 bytes for a UTF-16 unit. */
const BYTES_PER_UNIT = 3;
/** Keys under which a sequence holds its steps. */
const INNER = ["normalizers", "pretokenizers", "processors", "decoders"] as const;

/**
 * The reason not to run some steps, or undefined. A short list of steps can lengthen a text exponentially, and a FixedLength
 * of 0 never ends.
 */
export function stepsFault(roots: readonly unknown[]): string | undefined {
  const steps = stepsOf(roots);
  if (steps === undefined) return `its steps are nested more than ${MAX_DEPTH} deep`;
  const hasBadLength = steps.some(({ type, length }) => type === "FixedLength" && !isPositive(length));
  if (hasBadLength) return "a FixedLength pre-tokenizer needs a length of at least 1";
  if (steps.some(({ pattern }) => !isPattern(pattern))) return "a pattern is neither a String nor a Regex";
  const growth = steps.reduce((product, step) => product * growthOf(step), 1);
  return growth > MAX_GROWTH ? `its steps make a text more than ${MAX_GROWTH} times as long` : undefined;
}

/** Whether some steps contain one of a type, at any depth that `stepsFault` allows. */
export function hasStep(roots: readonly unknown[], type: string): boolean {
  return stepsOf(roots)?.some((step) => step["type"] === type) ?? false;
}

/** All steps, including those within sequences; undefined if they are nested too deeply. */
function stepsOf(roots: readonly unknown[]): Step[] | undefined {
  const steps: Step[] = [];
  let level = roots;
  for (let depth = 0; level.length > 0; depth++) {
    if (depth > MAX_DEPTH) return undefined;
    const stepsOfLevel = level.filter(isObject);
    for (const step of stepsOfLevel) steps.push(step);
    level = stepsOfLevel.flatMap((step) => INNER.flatMap((key) => listOf(step[key])));
  }
  return steps;
}

const isObject = (value: unknown): value is Step => value !== null && typeof value === "object";
const listOf = (value: unknown): readonly unknown[] => (Array.isArray(value) ? value : []);
const isPositive = (value: unknown): boolean => typeof value === "number" && Number.isSafeInteger(value) && value >= 1;

/** Whether a step has no pattern, or one that the library can use. It prints any other. */
function isPattern(pattern: unknown): boolean {
  if (pattern === undefined) return true;
  const { String: text, Regex: expression } = isObject(pattern) ? pattern : {};
  return expression === undefined ? typeof text === "string" : typeof expression === "string";
}

const lengthOf = (value: unknown): number => (typeof value === "string" ? value.length : 0);

/** Maximum factor by which a step lengthens a text, apart from what it adds once. */
function growthOf({ type, pattern, content, str_rep, replacement, suffix, single, pair }: Step): number {
  switch (type) {
    case "Replace":
      return replaceGrowth(pattern, lengthOf(content));
    case "Metaspace":
      return Math.max(1, lengthOf(str_rep), lengthOf(replacement));
    case "ByteLevel":
      return BYTES_PER_UNIT;
    case "BPEDecoder":
      return lengthOf(suffix) === 0 ? 2 : 1;
    case "TemplateProcessing":
      return Math.max(1, sequences(single), sequences(pair) / 2);
    default:
      return 1;
  }
}

function replaceGrowth(pattern: unknown, inserted: number): number {
  const text = isObject(pattern) ? lengthOf(pattern["String"]) : 0;
  // A regular expression or an empty text may match between any two characters.
  return text === 0 ? inserted + 1 : Math.max(1, inserted / text);
}

/** Number of times that a template contains a text. */
const sequences = (template: unknown): number =>
  listOf(template).filter((item) => isObject(item) && "Sequence" in item).length;
