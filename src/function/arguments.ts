import { ConfigError, ShapeError } from "../base/errors";
import { checkKeys } from "../base/option-keys";
import type { Shape } from "../base/shape";
import { shown } from "../base/shown";
import { recorderOf } from "../tape/tape";
import type { Recorder, Value } from "../tape/tape";

/*
 * Checks of what a program without types may pass where the compiler would refuse it. Without them a misspelt option, or one
 * that is given by its place, would be left out of the result in silence.
 */

/** Whether something has members by name, as options and records do. */
export const isRecord = (given: unknown): given is object =>
  typeof given === "object" && given !== null && !Array.isArray(given) && !ArrayBuffer.isView(given);

/** @param name of the function. @throws ConfigError for options that are not given by name, or that do not exist. */
export function checkOptions(name: string, options: unknown, known: readonly string[]): void {
  if (isRecord(options)) {
    checkKeys(name, options, known);
    return;
  }
  throw new ConfigError(`The options of ${name} are ${shown(options)}.`, `Give them by name: { ${known.join(", ")} }.`);
}

/** @throws ConfigError for a value of an option that is none of its words. */
export function checkWord(name: string, option: string, given: unknown, words: readonly string[]): void {
  if (words.some((word) => word === given)) return;
  throw new ConfigError(`${name}: ${option} is ${shown(given)}.`, `It may be ${words.join(", ")}.`);
}

/** @throws ConfigError for a value that is not an engine, such as the promise of one. */
export function checkEngine(engine: unknown): void {
  if (isRecord(engine) && "device" in engine) return;
  const what = engine instanceof Promise ? "a promise" : shown(engine);
  throw new ConfigError(`The engine is ${what}.`, "Make one: const engine = await createEngine().");
}

/** @throws ConfigError for a value that is not a function. */
export function checkBody(body: unknown): void {
  if (typeof body === "function") return;
  throw new ConfigError(`The body is ${shown(body)}.`, "Give the function that records it, after the parameters.");
}

/** @param least smallest size of an axis. @throws ShapeError for a value that is not a list of whole numbers from `least`. */
export function checkShape(what: string, shape: unknown, least = 1): asserts shape is Shape {
  const isSize = (size: unknown): boolean => Number.isInteger(size) && Number(size) >= least;
  if (Array.isArray(shape) && shape.every(isSize)) return;
  const given = Array.isArray(shape) ? `[${shape.map((size: unknown) => shown(size)).join(", ")}]` : shown(shape);
  throw new ShapeError(`The shape of ${what} is ${given}.`, "Give a list of whole numbers from 1, such as [32, 2].");
}

/** @throws ConfigError for a value that is not a list. */
export function checkList(what: string, given: unknown, example: string): void {
  if (Array.isArray(given)) return;
  throw new ConfigError(`The ${what} are ${shown(given)}.`, `Give a list of them: ${example}.`);
}

/** The recorder of values of which none may be left out, unlike those of `recorderOf`, which it throws as. */
export function recorderOfAll(...values: readonly Value[]): Recorder {
  const given: readonly unknown[] = values;
  if (!given.includes(undefined)) return recorderOf(...values);
  throw new ConfigError(
    `Argument ${given.indexOf(undefined) + 1} of an op is undefined.`,
    "Pass a value: an input or a parameter by its name, or what an op returned.",
  );
}
