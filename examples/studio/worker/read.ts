// The user's files: which of them are read, for which task, and the examples in them.
import { DataError } from "../../../src/base/errors";
import type { Conversation } from "../../../src/data/chat";
import { decodeImage } from "../../../src/data/decode-image";
import type { Example } from "../../../src/data/example";
import { imageSpec } from "../../../src/data/images";
import type { ImageSample, Normalisation } from "../../../src/data/images";
import { readConversations } from "../../../src/data/jsonl";
import { readTextIds } from "../../../src/data/lines";
import { fitImage, normaliseImage, normalisationOf, readPreprocessor } from "../../../src/data/preprocessor";
import { createModel } from "../../../src/model/families";
import type { GivenFile, Mapping, StudioTask } from "../protocol";
import { BlobDirectory } from "./directories";
import type { OpenedModel } from "./model";
import { guessColumns, Problems, readTable } from "./table";
import type { Table } from "./table";

const IMAGE = /\.(?:png|jpe?g)$/i;
/** Names of files and folders to evaluate on, and to learn from. */
const DEV = /^(?:dev|valid|validation|val|eval|test)(?![a-z])/i;
const TRAIN = /^train(?:ing)?(?![a-z])/i;

/** The user's files, by what is in them. */
type FileKind = "table" | "lines" | "text" | "images";

const ENDINGS: Readonly<Record<FileKind, RegExp>> = {
  images: IMAGE,
  table: /\.(?:csv|tsv)$/i,
  lines: /\.jsonl$/i,
  text: /\.txt$/i,
};

/** Tasks that a kind of files can be read for, the likeliest first. */
const TASKS: Readonly<Record<FileKind, readonly StudioTask[]>> = {
  table: ["classify", "answer"],
  lines: ["answer", "classify"],
  text: ["text"],
  images: ["images"],
};

const TASK_WORDS: Readonly<Record<StudioTask, string>> = {
  classify: "classify texts",
  answer: "write answers",
  text: "continue texts",
  images: "classify images",
};

const baseName = (path: string): string => path.split("/").at(-1)!;

/** @throws DataError for files of which none can be read. */
function kindOf(files: readonly GivenFile[]): FileKind {
  // A constant object's keys are those of its type.
  const kinds = Object.keys(ENDINGS) as FileKind[];
  const kind = kinds.find((each) => files.some(({ path }) => ENDINGS[each].test(path)));
  if (kind !== undefined) return kind;
  const names = files.slice(0, 3).map(({ path }) => baseName(path));
  throw new DataError(
    `nothing here reads ${names.length === 0 ? "an empty folder" : names.join(", ")}`,
    "give a .csv, .tsv, .jsonl or .txt file, or a folder of PNG or JPEG images with a folder for each class",
  );
}

/** The files that are read, and those that are not. */
interface Chosen {
  readonly train: readonly GivenFile[];
  readonly dev: readonly GivenFile[];
  readonly unused: readonly GivenFile[];
}

/** Takes all images and all texts, but one table or one file of JSON lines, whose columns or keys another one may not share. */
function chosenFiles(files: readonly GivenFile[], kind: FileKind): Chosen {
  const fitting = files.filter(({ path }) => ENDINGS[kind].test(path));
  // An image's own name and the folder of its class say nothing of what it is for.
  const namesOf = ({ path }: GivenFile): string[] =>
    kind === "images" ? path.split("/").slice(0, -2) : [baseName(path)];
  const devs = fitting.filter((file) => namesOf(file).some((name) => DEV.test(name)));
  const others = fitting.filter((file) => !devs.includes(file));
  const [learnt, evaluated] = others.length > 0 ? [others, devs] : [devs, []];
  if (kind === "images" || kind === "text") return { train: learnt, dev: evaluated, unused: [] };
  const train = learnt.find(({ path }) => TRAIN.test(baseName(path))) ?? learnt[0]!;
  const dev = [...evaluated, ...learnt].find((file) => file !== train && devs.includes(file));
  const read = [train, ...(dev ? [dev] : [])];
  return { train: [train], dev: read.slice(1), unused: fitting.filter((file) => !read.includes(file)) };
}

/** An image as the model reads it, also in bytes [channels, rows, columns]. */
export interface StudioImage extends ImageSample {
  readonly bytes: Uint8Array;
}

/** Examples of a task, before they are tokenised. Those of other tasks are empty. */
export interface Part {
  readonly examples: readonly Example[];
  readonly conversations: readonly Conversation[];
  readonly images: readonly StudioImage[];
  /** The tokens of a plain text. */
  readonly ids: Int32Array;
}

const EMPTY: Part = { examples: [], conversations: [], images: [], ids: new Int32Array() };

/** What was found in the user's files. */
export interface ReadFiles {
  readonly mapping: Mapping;
  /** Names of the columns; empty for files that are not tables. */
  readonly columns: readonly string[];
  /** Names of the classes in the data, in order. */
  readonly names: readonly string[];
  /** The examples, with labels as positions in a list of names. */
  parts(labelNames: readonly string[]): { readonly train: Part; readonly dev: Part };
  readonly problems: Problems;
  /** Name of the file or folder that is learnt from. */
  readonly trainFile: string;
  /** That of the examples to evaluate on; undefined where they are to be a share of the others. */
  readonly devFile: string | undefined;
  readonly unused: readonly string[];
  /** Of images: how bytes become the model's numbers. */
  readonly normalisation?: Normalisation;
}

interface ReadOptions {
  readonly chosen: Chosen;
  readonly opened: OpenedModel;
  readonly problems: Problems;
  /** Whether they are conversations, instructions or pairs, and not a table. */
  readonly isChat: boolean;
  readonly task: StudioTask;
  readonly given: Mapping | undefined;
  readonly usual: Pick<Mapping, "task" | "eachAnswer" | "devShare">;
}

type Found = Pick<ReadFiles, "mapping" | "columns" | "names" | "parts" | "normalisation">;

/** Reads files for a task that the model can learn. @throws DataError where there is none, and for files without usable examples. */
export async function readFiles(
  files: readonly GivenFile[],
  opened: OpenedModel,
  given: Mapping | undefined,
): Promise<ReadFiles> {
  const kind = kindOf(files);
  const chosen = chosenFiles(files, kind);
  const isChat = kind === "lines" && (await isConversation(chosen.train[0]!));
  const possible = TASKS[kind].filter((task) => opened.facts.tasks.includes(task) && (!isChat || task === "answer"));
  const likeliest = possible.find((task) => (task === "answer") === isChat) ?? possible[0];
  const task = given && possible.includes(given.task) ? given.task : likeliest;
  if (task === undefined) {
    const can = opened.facts.tasks.map((each) => TASK_WORDS[each]).join(" or ");
    throw new DataError(
      `these files teach a model to ${TASK_WORDS[isChat ? "answer" : TASKS[kind][0]!]}, and this ${opened.facts.family} can learn to ${can}`,
      "give other files, or another model",
    );
  }
  const problems = new Problems();
  const usual = { task, eachAnswer: given?.eachAnswer ?? false, devShare: given?.devShare ?? 0.1 };
  const found = await read({ chosen, opened, problems, isChat, task, given, usual });
  const nameOf = ([first]: readonly GivenFile[]): string | undefined =>
    first && (kind === "images" ? first.path.split("/").slice(0, -2).join("/") : baseName(first.path));
  const [trainFile = "", devFile] = [nameOf(chosen.train), nameOf(chosen.dev)];
  const unused = chosen.unused.map(({ path }) => path);
  return { ...found, problems, trainFile: trainFile || "images", devFile, unused };
}

/** Whether the first line of a file of JSON lines is a conversation. */
async function isConversation({ file }: GivenFile): Promise<boolean> {
  const start = (await file.slice(0, 1 << 20).text()).split("\n").find((line) => line.trim() !== "") ?? "";
  return /"(?:messages|instruction|prompt|source)"\s*:/.test(start);
}

async function read(options: ReadOptions): Promise<Found> {
  const { task, isChat, chosen, problems, given } = options;
  if (task === "images") return imageParts(options);
  if (task === "text") return textParts(options);
  if (isChat) return chatParts(options);
  const tableOf = ([file]: readonly GivenFile[], header?: boolean): Promise<Table> =>
    readTable(aloneIn(file!), baseName(file!.path), problems, header);
  const train = await tableOf(chosen.train, given?.header);
  return tableParts(train, chosen.dev.length > 0 ? await tableOf(chosen.dev, train.header) : undefined, options);
}

const NO_COLUMNS = { header: false, text: -1, pair: -1, label: -1 } as const;

const aloneIn = ({ path, file }: GivenFile): BlobDirectory =>
  new BlobDirectory("the given files", [[baseName(path), file]]);

async function textParts({ chosen, opened, usual }: ReadOptions): Promise<Found> {
  const tokenizer = await opened.tokenizer();
  const partOf = async (files: readonly GivenFile[]): Promise<Part> => {
    const all: number[] = [];
    for (const file of files)
      for (const id of await readTextIds(aloneIn(file), baseName(file.path), tokenizer)) all.push(id);
    return { ...EMPTY, ids: Int32Array.from(all) };
  };
  const parts = { train: await partOf(chosen.train), dev: await partOf(chosen.dev) };
  return { mapping: { ...usual, ...NO_COLUMNS }, columns: [], names: [], parts: () => parts };
}

function tableParts(train: Table, dev: Table | undefined, { given, usual, task, problems }: ReadOptions): Found {
  const width = train.columns.length;
  const isUsable = given?.task === task && [given.text, given.label].every((column) => column >= 0 && column < width);
  const columns = isUsable ? given : guessColumns(train, task);
  const { text, label } = columns;
  const pair = task === "classify" && columns.pair < width ? columns.pair : -1;
  if (width < 2 || text === label) {
    throw new DataError(
      `${train.file} has ${width === 1 ? "one column" : "one column for both"}, and a row needs a text and ${task === "classify" ? "its class" : "its answer"}`,
      "separate columns by tabs in .tsv, by commas in .csv, or choose two columns",
    );
  }
  const usable = (table: Table): Table => ({
    ...table,
    rows: table.rows.filter(({ line, cells }) => {
      const empty = [text, label, ...(pair >= 0 ? [pair] : [])].find((column) => (cells[column] ?? "").trim() === "");
      if (empty === undefined) return true;
      problems.add(table.file, line, `${table.columns[empty] ?? "a column"} is empty`, "Fill it, or drop the line.");
      return false;
    }),
  });
  const [trainRows, devRows] = [usable(train), dev && usable(dev)];
  const names = task === "classify" ? distinctLabels(trainRows, label) : [];
  const conversationOf = (cells: readonly string[]): Conversation => [
    { text: cells[text]!, isAnswer: false },
    { text: cells[label]!, isAnswer: true },
  ];
  const partOf = ({ file, rows }: Table, labelNames: readonly string[]): Part => {
    if (task !== "classify") return { ...EMPTY, conversations: rows.map(({ cells }) => conversationOf(cells)) };
    const examples = rows.flatMap(({ line, cells }): Example[] => {
      const name = cells[label]!.trim();
      const position = labelNames.includes(name) ? labelNames.indexOf(name) : Number(name);
      if (position in labelNames)
        return [{ text: cells[text]!, ...(pair >= 0 && { pair: cells[pair]! }), label: position }];
      problems.add(file, line, unknownLabel(name), "Correct it.");
      return [];
    });
    return { ...EMPTY, examples };
  };
  return {
    mapping: { ...usual, header: train.header, text, pair, label },
    columns: train.columns,
    names,
    parts: (labelNames) => ({
      train: partOf(trainRows, labelNames),
      dev: devRows ? partOf(devRows, labelNames) : EMPTY,
    }),
  };
}

const unknownLabel = (name: string): string =>
  `the label ${JSON.stringify(name.slice(0, 40))} is not one of the others`;

/** Most classes that a column of labels may have. */
const MOST_LABELS = 200;

/** @throws DataError for a column that cannot be that of labels. */
function distinctLabels({ file, columns, rows }: Table, label: number): string[] {
  const names = [...new Set(rows.map(({ cells }) => cells[label]!.trim()))];
  if (names.length < 2 || names.length > MOST_LABELS) {
    throw new DataError(
      `${columns[label]} of ${file} has ${names.length} different values, and classes are 2 to ${MOST_LABELS}`,
      "choose the column of the classes",
    );
  }
  const areNumbers = names.every((name) => Number.isFinite(Number(name)));
  return areNumbers ? names.sort((a, b) => Number(a) - Number(b)) : names.sort();
}

async function chatParts({ chosen, opened, problems, usual }: ReadOptions): Promise<Found> {
  const template = await opened.chatTemplate();
  const partOf = async ([file]: readonly GivenFile[]): Promise<Part> => {
    if (!file) return EMPTY;
    const name = baseName(file.path);
    const conversations = await readConversations(aloneIn(file), name, {
      template,
      eachAnswer: usual.eachAnswer,
      onBadLine: (error, line) => problems.addError(name, line, error),
    });
    if (conversations.length > 0) return { ...EMPTY, conversations };
    const [first] = problems.first;
    throw new DataError(
      `${name} has no line that can be read${first ? `: ${first.fact}` : ""}`,
      first?.remedy ?? "give one conversation in each line",
    );
  };
  const parts = { train: await partOf(chosen.train), dev: await partOf(chosen.dev) };
  return { mapping: { ...usual, ...NO_COLUMNS }, columns: [], names: [], parts: () => parts };
}

/** Images by the folder that they are in. */
async function imageParts({ chosen, opened, problems, usual }: ReadOptions): Promise<Found> {
  const classOf = ({ path }: GivenFile): string => path.split("/").at(-2) ?? "";
  const names = [...new Set(chosen.train.map(classOf))].sort();
  if (names.length < 2) {
    throw new DataError("the images are all in one folder", "give a folder with a folder for each class");
  }
  const spec = imageSpec(createModel(opened.config));
  const preprocessor = await readPreprocessor(opened.directory);
  const decoded = async (files: readonly GivenFile[]) => {
    const images: { readonly given: GivenFile; readonly bytes: Uint8Array }[] = [];
    for (const given of files) {
      try {
        const image = await decodeImage(new Uint8Array(await given.file.arrayBuffer()), baseName(given.path));
        images.push({ given, bytes: fitImage(image, preprocessor, spec) });
      } catch (error) {
        if (!(error instanceof DataError)) throw error;
        problems.addError(given.path, undefined, error);
      }
    }
    return images;
  };
  const [train, dev] = [await decoded(chosen.train), await decoded(chosen.dev)];
  const partOf = (images: typeof train, labelNames: readonly string[]): Part => ({
    ...EMPTY,
    images: images.flatMap(({ given, bytes }): StudioImage[] => {
      const label = labelNames.indexOf(classOf(given));
      if (label < 0) {
        problems.add(given.path, undefined, unknownLabel(classOf(given)), "Put it into the folder of a class.");
        return [];
      }
      // Made whenever they are read: a copy in numbers takes four times the memory of the bytes.
      return [
        {
          label,
          bytes,
          get pixels() {
            return normaliseImage(bytes, preprocessor, spec.channels);
          },
        },
      ];
    }),
  });
  return {
    mapping: { ...usual, ...NO_COLUMNS },
    columns: [],
    names,
    parts: (labelNames) => ({ train: partOf(train, labelNames), dev: partOf(dev, labelNames) }),
    normalisation: normalisationOf(preprocessor, spec.channels),
  };
}
