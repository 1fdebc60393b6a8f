/** A result of one of several methods that are compared. */
export interface Named<T> {
  readonly name: string;
  readonly result: T;
}
