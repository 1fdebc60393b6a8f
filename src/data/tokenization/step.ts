/** Why a part of tokenizer.json cannot be used. */
export class UnsupportedStep extends Error {}

/** A part of tokenizer.json: a normalizer, pre-tokenizer, model, post-processor or decoder. */
export type Step = Readonly<Record<string, unknown>>;

const DESCRIPTIONS = { string: "a text", boolean: "true or false", number: "a number" };

interface TypeNames {
  readonly string: string;
  readonly boolean: boolean;
  readonly number: number;
}

/** An option of a step. A missing one, and null, is the default. @throws UnsupportedStep for another type. */
export function option<Name extends keyof TypeNames>(
  step: Step,
  key: string,
  type: Name,
  defaultValue: TypeNames[Name],
): TypeNames[Name] {
  const value = step[key] ?? defaultValue;
  // The compiler does not connect the name of a type with the type.
  if (typeof value === type) return value as TypeNames[Name];
  throw new UnsupportedStep(`${key} of ${nameOf(step)} is not ${DESCRIPTIONS[type]}`);
}

/** The steps within a sequence. */
export function innerSteps(step: Step, key: string): readonly Step[] {
  const inner = step[key];
  if (Array.isArray(inner) && inner.every(isStep)) return inner;
  throw new UnsupportedStep(`${key} of ${nameOf(step)} is not a list of steps`);
}

export function isStep(value: unknown): value is Step {
  return value !== null && typeof value === "object" && !Array.isArray(value);
}

/** The error for a step of an unknown type. */
export function unsupported(kind: string, step: Step): UnsupportedStep {
  return new UnsupportedStep(`the ${kind} ${nameOf(step)} is not supported`);
}

export function nameOf({ type }: Step): string {
  return typeof type === "string" ? type.slice(0, 60) : "without a type";
}
