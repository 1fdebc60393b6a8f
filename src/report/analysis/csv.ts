import papa from "papaparse";

/** Rows as comma-separated values, with their names in the first line. */
export const csvText = (rows: readonly object[]): string => `${papa.unparse<object>([...rows], { newline: "\n" })}\n`;
