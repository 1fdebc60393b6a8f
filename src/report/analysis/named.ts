/** The result of one of several methods. */
export interface Named<T> {
  readonly name: string;
  readonly result: T;
}
