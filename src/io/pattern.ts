import { parsePattern } from "./pattern-parse";
import type { PatternNode } from "./pattern-parse";

/**
 * A state of an automaton. Regular expressions that come from files are matched by Thompson's construction: the automaton
 * is in several states at the same time and never backtracks. Its time is linear in the text, so that no file can make it
 * hang.
 */
type Step =
  | { readonly kind: "character"; readonly test: (character: string) => boolean }
  | { readonly kind: "begin" | "end" | "match" }
  | Fork;

/** A state from which several others are reached without reading a character. */
interface Fork {
  readonly kind: "fork";
  readonly targets: number[];
}

const MAXIMUM_PATTERN = 1000;
const MAXIMUM_STEPS = 20_000;

/** A test whether all of a text matches. @throws SyntaxError for an invalid, unsupported or too large expression. */
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

/** Appends the steps of a node. Once it has matched, the automaton continues after the last of them. */
function emit(node: PatternNode, steps: Step[]): void {
  if (node.kind === "sequence") for (const part of node.parts) emit(part, steps);
  else if (node.kind === "choice") emitChoice(node.parts, steps);
  else if (node.kind === "repeat") emitRepeat(node, steps);
  else push(steps, node);
}

function emitChoice(parts: readonly PatternNode[], steps: Step[]): void {
  const fork: Fork = { kind: "fork", targets: [] };
  const exits: number[][] = [];
  push(steps, fork);
  for (const part of parts) {
    fork.targets.push(steps.length);
    emit(part, steps);
    const exit: Fork = { kind: "fork", targets: [] };
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
    // A part without steps matches only the empty text: repeating it changes nothing.
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

/** States that are reached from others at a position in the text without reading a character. */
function reach(steps: readonly Step[], from: readonly number[], position: number, length: number): Set<number> {
  const reached = new Set<number>();
  const open = [...from];
  for (let state = open.pop(); state !== undefined; state = open.pop()) {
    if (reached.has(state)) continue;
    reached.add(state);
    const step = steps[state]!;
    if (step.kind === "fork") open.push(...step.targets);
    else if ((step.kind === "begin" && position === 0) || (step.kind === "end" && position === length))
      open.push(state + 1);
  }
  return reached;
}
