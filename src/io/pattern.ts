import { parsePattern } from "./pattern-parse";
import type { PatternNode } from "./pattern-parse";

/**
 * Regular expressions that come from files, matched in time linear in the text whatever the expression: an automaton that
 * is in several states at once (Thompson's construction) never goes back, so no file can make it hang.
 */
type Step =
  | { readonly kind: "character"; readonly test: (character: string) => boolean }
  | { readonly kind: "begin" | "end" | "match" }
  | { kind: "fork"; targets: number[] };

const MAXIMUM_PATTERN = 1000;
const MAXIMUM_STEPS = 20_000;

/** Tests whether the whole text matches. Throws SyntaxError for an expression that is invalid, unsupported or too large. */
export function compilePattern(pattern: string): (text: string) => boolean {
  if (pattern.length > MAXIMUM_PATTERN) throw new SyntaxError(`it is longer than ${MAXIMUM_PATTERN} characters`);
  const steps: Step[] = [];
  emit(parsePattern(pattern), steps);
  push(steps, { kind: "match" });
  return (text) => matches(steps, Array.from(text));
}

function push(steps: Step[], step: Step): void {
  if (steps.length >= MAXIMUM_STEPS) throw new SyntaxError("it repeats too much");
  steps.push(step);
}

/** Appends steps that go on after the last of them once the node has matched. */
function emit(node: PatternNode, steps: Step[]): void {
  if (node.kind === "sequence") for (const part of node.parts) emit(part, steps);
  else if (node.kind === "choice") emitChoice(node.parts, steps);
  else if (node.kind === "repeat") emitRepeat(node, steps);
  else push(steps, node);
}

function emitChoice(parts: readonly PatternNode[], steps: Step[]): void {
  const fork = { kind: "fork" as const, targets: [] as number[] };
  const exits: number[][] = [];
  push(steps, fork);
  for (const part of parts) {
    fork.targets.push(steps.length);
    emit(part, steps);
    const exit = { kind: "fork" as const, targets: [] as number[] };
    exits.push(exit.targets);
    push(steps, exit);
  }
  for (const exit of exits) exit.push(steps.length);
}

function emitRepeat({ part, least, most }: Extract<PatternNode, { kind: "repeat" }>, steps: Step[]): void {
  if (least > MAXIMUM_STEPS || (most !== Infinity && most > MAXIMUM_STEPS))
    throw new SyntaxError("it repeats too much");
  for (let i = 0; i < least; i++) {
    const before = steps.length;
    emit(part, steps);
    // What matches the empty text alone need not be repeated, however often it asks for it.
    if (steps.length === before) return;
  }
  const forks: number[][] = [];
  for (let i = least; i < (most === Infinity ? least + 1 : most); i++) {
    const fork = steps.length;
    const targets = [fork + 1];
    forks.push(targets);
    push(steps, { kind: "fork", targets });
    emit(part, steps);
    if (most === Infinity) push(steps, { kind: "fork", targets: [fork] });
  }
  for (const targets of forks) targets.push(steps.length);
}

function matches(steps: readonly Step[], characters: readonly string[]): boolean {
  let states = reach(steps, [0], 0, characters.length);
  for (const [index, character] of characters.entries()) {
    const next: number[] = [];
    for (const state of states) {
      const step = steps[state]!;
      if (step.kind === "character" && step.test(character)) next.push(state + 1);
    }
    if (next.length === 0) return false;
    states = reach(steps, next, index + 1, characters.length);
  }
  return states.has(steps.length - 1);
}

/** Every state that is reached from `from` without a character, at this place in the text. */
function reach(steps: readonly Step[], from: readonly number[], at: number, length: number): Set<number> {
  const reached = new Set<number>();
  const open = [...from];
  for (let state = open.pop(); state !== undefined; state = open.pop()) {
    if (reached.has(state)) continue;
    reached.add(state);
    const step = steps[state]!;
    if (step.kind === "fork") open.push(...step.targets);
    else if ((step.kind === "begin" && at === 0) || (step.kind === "end" && at === length)) open.push(state + 1);
  }
  return reached;
}
