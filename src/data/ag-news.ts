import { directoryAt } from "../io/directory-like";
import type { DirectoryLike } from "../io/directory-like";
import { readCsv } from "./csv";
import type { Dataset } from "./example";
import { lineError } from "./text-file";

/** AG News' classes, in the order of their numbers, which files count from 1. */
export const AG_NEWS_CLASSES = ["World", "Sports", "Business", "Sci/Tech"] as const;

/**
 * Reads a CSV file of AG News (Zhang et al. 2015): class, title and description, without a header. The text of an example is
 * title and description with a space between them, as in Hugging Face's data set; a backslash stands for a line end in it.
 * @throws DataError with the line for malformed CSV, another number of cells, another class than 1 to 4, and an empty text.
 */
export async function readAgNews(place: DirectoryLike, file: string): Promise<Dataset> {
  const directory = await directoryAt(place);
  const where = `${file} in ${directory.name}`;
  const rows = await readCsv(directory, file, { width: 3 });
  const examples = rows.map(({ line, cells: [number, title, description] }) => {
    const label = ["1", "2", "3", "4"].indexOf(number!);
    if (label < 0) {
      const fact = `the class is ${JSON.stringify(number!.slice(0, 40))}, not 1 to 4`;
      throw lineError(where, line, fact, "keep AG News' columns: class, title, description, without a header");
    }
    const text = `${title} ${description}`;
    if (text.trim() === "")
      throw lineError(where, line, "title and description are empty", "fill one, or drop the row");
    return { text, label };
  });
  return { examples, labelNames: AG_NEWS_CLASSES, skipped: 0 };
}
