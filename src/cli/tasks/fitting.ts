import { mkdtemp, open, readdir, rm, stat, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { basename, dirname, extname, join, resolve } from "node:path";
import { DataError, SafetapeError } from "../../base/errors";
import { createModel, withHead } from "../../model/families";
import type { Model } from "../../model/model";
import { preprocessing } from "./task-data";
import type { TaskData } from "./task-data";
import { readTask, TASKS, taskHead } from "./tasks";

/** What is read of a file of lines, to see what it is: so many lines, and bytes. */
const LINES = 100;
const BYTES = 1 << 18;
const LINE_FILES: readonly string[] = [".jsonl", ".tsv", ".csv", ".txt", ".conll", ".raw", ".tokens"];

/** How a task's rows are made, as the options of `safetape train` say. */
export interface RowSettings {
  readonly maxLength: number;
  readonly chatTemplate?: string | undefined;
  readonly eachAnswer?: boolean;
}

/** The first rows of data, which readers of tasks try. */
export class FirstRows {
  readonly #loaders = new Map<string | undefined, ReturnType<typeof preprocessing>>();

  private constructor(
    private readonly path: string,
    private readonly folder: string,
    private readonly file: string,
    private readonly modelPath: string,
    private readonly config: Readonly<Record<string, unknown>>,
  ) {}

  /**
   * Takes the first rows of the data at a path. Other files than those of lines are read where they are.
   * @param config the model's config.json.
   */
  static async open(
    path: string,
    { path: modelPath, config }: { readonly path: string; readonly config: Readonly<Record<string, unknown>> },
  ): Promise<FirstRows> {
    const folder = await mkdtemp(join(tmpdir(), "safetape-"));
    const isFile = (await stat(path)).isFile();
    const [from, names] = isFile ? [dirname(path), [basename(path)]] : [path, await readdir(path)];
    for (const name of names) {
      const source = resolve(from, name);
      const isLines = LINE_FILES.includes(extname(name)) && (await stat(source)).isFile();
      if (isLines) await writeFile(join(folder, name), await firstLines(source));
      else await symlink(source, join(folder, name));
    }
    return new FirstRows(path, folder, isFile ? basename(path) : "", modelPath, config);
  }

  /** The model with the head that a task needs. @throws what refuses the task, its data or its head. */
  async modelFor(task: string): Promise<Model> {
    return this.#named(async (path) => createModel(withHead(this.config, await taskHead(task, path))));
  }

  /** Reads the rows for a task. @throws as `safetape train` does, naming the data's own path. */
  async read(task: string, { maxLength, chatTemplate, eachAnswer = false }: RowSettings): Promise<TaskData> {
    const model = await this.modelFor(task);
    const longest = Math.min(maxLength, model.maxLength);
    return this.#named((path) =>
      readTask(task, { path, model, maxLength: longest, eachAnswer, ...this.#loader(chatTemplate) }),
    );
  }

  /** Names of the tasks that can read the rows, and the reason why none of the others does that has a file of this name. */
  async tasks(): Promise<{ readonly names: readonly string[]; readonly refusal: DataError | undefined }> {
    const names: string[] = [];
    let refusal: DataError | undefined;
    for (const task of TASKS) {
      const error = await this.refusalOf(task);
      if (!error) names.push(task);
      // Missing files are other errors: what is wrong with a file that is there says more.
      else if (error instanceof DataError) refusal ??= error;
    }
    return { names, refusal };
  }

  /**
   * Why a task cannot read the rows; undefined where it can.
   * @param settings how chats are written. Default: in any way of the model's chat template and plain roles.
   */
  async refusalOf(task: string, settings?: Omit<RowSettings, "maxLength">): Promise<SafetapeError | undefined> {
    let refusal: SafetapeError | undefined;
    for (const each of settings ? [settings] : [{}, { chatTemplate: "none" }]) {
      try {
        await this.read(task, { maxLength: Infinity, ...each });
        return undefined;
      } catch (error) {
        if (!(error instanceof SafetapeError)) throw error;
        refusal ??= error;
      }
    }
    return refusal;
  }

  /** Loads each tokenizer and template once. */
  #loader(chatTemplate: string | undefined): ReturnType<typeof preprocessing> {
    const known = this.#loaders.get(chatTemplate);
    if (known) return known;
    const { tokenizer, chatTemplate: template, preprocessor } = preprocessing(this.modelPath, chatTemplate);
    const loaders = { tokenizer: once(tokenizer), chatTemplate: once(template!), preprocessor: once(preprocessor) };
    this.#loaders.set(chatTemplate, loaders);
    return loaders;
  }

  /** Runs something on the copy of the rows, and names the data's own path in its errors. */
  async #named<T>(run: (path: string) => Promise<T>): Promise<T> {
    try {
      return await run(join(this.folder, this.file));
    } catch (error) {
      if (!(error instanceof SafetapeError)) throw error;
      const named = (text: string): string =>
        text.replaceAll(this.folder, this.file === "" ? this.path : dirname(this.path));
      const kind = error instanceof DataError ? DataError : SafetapeError;
      throw new kind(named(error.fact), named(error.remedy), { cause: error });
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await rm(this.folder, { recursive: true, force: true });
  }
}

function once<T>(load: () => Promise<T>): () => Promise<T> {
  let loaded: Promise<T> | undefined;
  return () => (loaded ??= load());
}

/** The first lines of a file, none of which ends within quotes of CSV. */
async function firstLines(path: string): Promise<string> {
  const handle = await open(path);
  try {
    const { buffer, bytesRead } = await handle.read(Buffer.alloc(BYTES), 0, BYTES, 0);
    const text = buffer.subarray(0, bytesRead).toString("utf8");
    const lines = text.split("\n");
    // The last line is incomplete where more bytes follow.
    const complete = bytesRead === BYTES && lines.length > 1 ? lines.slice(0, -1) : lines;
    if (complete.length <= LINES) return complete.join("\n");
    const quotes = (line: string): number => line.split('"').length - 1;
    let [count, isQuoted] = [0, false];
    while (count < complete.length && (count < LINES || (isQuoted && extname(path) === ".csv"))) {
      if (quotes(complete[count]!) % 2 === 1) isQuoted = !isQuoted;
      count++;
    }
    return `${complete.slice(0, count).join("\n")}\n`;
  } finally {
    await handle.close();
  }
}
