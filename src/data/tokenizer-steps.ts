/** One step of a normalizer, a pre-tokenizer, a post-processor or a decoder, as tokenizer.json has it. */
type Step = Readonly<Record<string, unknown>>;

/** A text may grow by this factor before it is cut into tokens; published tokenizers stay below 10. */
const MOST_GROWTH = 1024;
/** Steps within steps; published tokenizers have two. */
const MOST_DEPTH = 32;
/** UTF-8's bytes of one unit of UTF-16. */
const BYTES_OF_UNIT = 3;
const INNER = ["normalizers", "pretokenizers", "processors", "decoders"] as const;

/**
 * What makes steps unusable, if anything does: a list of short steps may make a text as long as 2 to the power of their
 * number, and a FixedLength of 0 never ends.
 */
export function stepsFault(roots: readonly unknown[]): string | undefined {
  const steps = stepsOf(roots);
  if (steps === undefined) return `steps lie more than ${MOST_DEPTH} deep in one another`;
  const fixed = steps.find(({ type, length }) => type === "FixedLength" && !isCount(length));
  if (fixed !== undefined) return "a FixedLength pre-tokenizer needs a length of at least 1";
  if (steps.some(({ pattern }) => !isPattern(pattern))) return "a pattern is neither a String nor a Regex";
  const growth = steps.reduce((product, step) => product * growthOf(step), 1);
  return growth > MOST_GROWTH ? `its steps make a text more than ${MOST_GROWTH} times as long` : undefined;
}

/** Whether a step of this type is among them, at any depth that `stepsFault` allows. */
export function hasStep(roots: readonly unknown[], type: string): boolean {
  return stepsOf(roots)?.some((step) => step["type"] === type) ?? false;
}

/** All steps, those of sequences too; undefined where they lie too deep. */
function stepsOf(roots: readonly unknown[]): Step[] | undefined {
  const steps: Step[] = [];
  let level = roots;
  for (let depth = 0; level.length > 0; depth++) {
    if (depth > MOST_DEPTH) return undefined;
    const own = level.filter((step): step is Step => step !== null && typeof step === "object");
    for (const step of own) steps.push(step);
    level = own.flatMap((step) => INNER.flatMap((key) => (Array.isArray(step[key]) ? (step[key] as unknown[]) : [])));
  }
  return steps;
}

const isCount = (value: unknown): boolean => Number.isSafeInteger(value) && (value as number) >= 1;

/** Replace and Split have one; the library prints others. */
function isPattern(pattern: unknown): boolean {
  if (pattern === undefined) return true;
  const { String: text, Regex: expression } = (pattern ?? {}) as { String?: unknown; Regex?: unknown };
  return expression === undefined ? typeof text === "string" : typeof expression === "string";
}

const lengthOf = (value: unknown): number => (typeof value === "string" ? value.length : 0);

/** How many times as long a step makes a text, at most. What it adds once does not count. */
function growthOf({ type, pattern, content, str_rep, replacement, suffix, single, pair }: Step): number {
  switch (type) {
    case "Replace":
      return replaceGrowth(pattern, lengthOf(content));
    case "Metaspace":
      return Math.max(1, lengthOf(str_rep), lengthOf(replacement));
    case "ByteLevel":
      return BYTES_OF_UNIT;
    case "BPEDecoder":
      return lengthOf(suffix) === 0 ? 2 : 1;
    case "TemplateProcessing":
      return Math.max(1, sequences(single), sequences(pair) / 2);
    default:
      return 1;
  }
}

function replaceGrowth(pattern: unknown, inserted: number): number {
  const text = lengthOf((pattern as { String?: unknown } | null | undefined)?.String);
  // An expression, or an empty text, may match between any two characters.
  return text === 0 ? inserted + 1 : Math.max(1, inserted / text);
}

/** How often a template names its texts. */
function sequences(template: unknown): number {
  if (!Array.isArray(template)) return 0;
  return template.filter((item: unknown) => item !== null && typeof item === "object" && "Sequence" in item).length;
}
