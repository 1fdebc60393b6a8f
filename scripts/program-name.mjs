// @ts-check
/**
 * Name of the bundle of a TypeScript program of this repository, without its extension.
 * @param {string} file its path from the root
 */
export const programName = (file) => file.replace(/\.ts$/, "").replaceAll(/[\\/]/g, "-");
