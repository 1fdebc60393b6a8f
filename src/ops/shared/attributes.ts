/** The attributes of an op that has none. */
export type NoAttributes = Readonly<Record<string, never>>;
