import { SafetapeError } from "../../src/base/errors";

/** A promise, or a function that returns one or throws. */
type Work = Promise<unknown> | (() => unknown);
type ErrorClass<E extends Error> = abstract new (...args: never[]) => E;

/**
 * The error that a promise rejects with, or that a function throws.
 * @param kind the class that the error must have. Default SafetapeError.
 * @throws Error if there is no error or one of another class, or if the remedy of a SafetapeError is not one line.
 */
export async function failure(work: Work): Promise<SafetapeError>;
export async function failure<E extends Error>(work: Work, kind: ErrorClass<E>): Promise<E>;
export async function failure(work: Work, kind: ErrorClass<Error> = SafetapeError): Promise<Error> {
  const running = Promise.resolve().then(() => (typeof work === "function" ? work() : work));
  const error: unknown = await running.then(
    () => {
      throw new Error(`Expected a ${kind.name}, but nothing was thrown.`);
    },
    (thrown: unknown) => thrown,
  );
  if (!(error instanceof kind)) throw new Error(`Expected a ${kind.name}, but got: ${String(error)}`, { cause: error });
  if (error instanceof SafetapeError && !/^.+$/.test(error.remedy)) {
    throw new Error(`The remedy is not one line: ${JSON.stringify(error.remedy)}`, { cause: error });
  }
  return error;
}
