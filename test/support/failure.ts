import { SafetapeError } from "../../src/base/errors";

/** A promise, or what returns one or throws. */
type Work = Promise<unknown> | (() => unknown);
type ErrorClass<E extends Error> = abstract new (...args: never[]) => E;

/**
 * The error that a promise rejects with, or that a function throws. Fails where there is none, where it is of another class
 * (default: SafetapeError), and where a SafetapeError has no remedy in one line.
 */
export async function failure(work: Work): Promise<SafetapeError>;
export async function failure<E extends Error>(work: Work, kind: ErrorClass<E>): Promise<E>;
export async function failure(work: Work, kind: ErrorClass<Error> = SafetapeError): Promise<Error> {
  const running = Promise.resolve().then(() => (typeof work === "function" ? work() : work));
  const error: unknown = await running.then(
    () => {
      throw new Error(`Nothing was thrown, where a ${kind.name} was expected.`);
    },
    (thrown: unknown) => thrown,
  );
  if (!(error instanceof kind))
    throw new Error(`A ${kind.name} was expected, not this: ${String(error)}`, { cause: error });
  if (error instanceof SafetapeError && !/^.+$/.test(error.remedy)) {
    throw new Error(`The remedy is not one line: ${JSON.stringify(error.remedy)}`, { cause: error });
  }
  return error;
}
