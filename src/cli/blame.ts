import { SafetapeError } from "../base/errors";
import { UsageError } from "./options";

/** How options are named in errors. */
export interface Naming {
  /** An option by its name among those that are given to `make`. */
  readonly nameOf: (name: string) => string;
  /** The key of one of them that is within an option, for its line in a file. Default: none is. */
  readonly keyOf?: (name: string) => string | undefined;
  /** What is named where none of the options alone is at fault. */
  readonly otherwise: string;
}

/**
 * What `make` makes of options, which it checks. Where it refuses them, the error names those of them without which it would not have
 * said the same.
 * @throws UsageError
 */
export function blaming<T>(
  options: Readonly<Record<string, unknown>>,
  { nameOf, keyOf = () => undefined, otherwise }: Naming,
  make: (options: Readonly<Record<string, unknown>>) => T,
): T {
  try {
    return make(options);
  } catch (error) {
    if (!(error instanceof SafetapeError) || error instanceof UsageError) throw error;
    const blamed = Object.keys(options).filter((name) => {
      const { [name]: value, ...others } = options;
      return value !== undefined && !says(error.message, () => make(others));
    });
    const names = blamed.length > 0 ? blamed.map(nameOf).join(" and ") : otherwise;
    throw new UsageError(`${names}: ${error.fact}`, error.remedy, { key: blamed.map(keyOf)[0], cause: error });
  }
}

/** Whether a function throws an error with this message. */
function says(message: string, run: () => unknown): boolean {
  try {
    run();
    return false;
  } catch (error) {
    return error instanceof Error && error.message === message;
  }
}

/** What a function returns; undefined where it refuses by an error of a kind. */
export async function ifAllowed<T>(
  run: () => T | Promise<T>,
  refusal: abstract new (...args: never[]) => SafetapeError = SafetapeError,
): Promise<T | undefined> {
  try {
    return await run();
  } catch (error) {
    if (error instanceof refusal) return undefined;
    throw error;
  }
}
