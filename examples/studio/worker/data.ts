// The user's files as rows of a task: read, mapped, split, tokenised, shown.
import { DataError } from "../../../src/base/errors";
import { LABEL_KINDS } from "../../../src/data/batch";
import type { Batch } from "../../../src/data/batch";
import { Batches } from "../../../src/data/batches";
import type { Conversation } from "../../../src/data/chat";
import type { Example } from "../../../src/data/example";
import { readImages } from "../../../src/data/image-folder";
import { ImageBatches, imageSpec } from "../../../src/data/images";
import type { ImageSample } from "../../../src/data/images";
import { checkAnswersEnd, conversationSamples, readConversations } from "../../../src/data/jsonl";
import { readBlocks } from "../../../src/data/lines";
import { answerPairs, pairSamples } from "../../../src/data/pairs";
import { readPreprocessor } from "../../../src/data/preprocessor";
import { blockSamples, encodeExamples, IGNORED_LABEL } from "../../../src/data/sample";
import type { Sample } from "../../../src/data/sample";
import { stratifiedSample } from "../../../src/data/stratified";
import type { Tokenizer } from "../../../src/data/tokenizer";
import type { Directory } from "../../../src/io/directory";
import { createModel, withHead } from "../../../src/model/families";
import type { HeadOptions } from "../../../src/model/families";
import type { Model } from "../../../src/model/model";
import type { BatchSource, Objective } from "../../../src/train/options";
import { weightedTokens } from "../../../src/train/plans/weighted-tokens";
import type { DataFacts, GivenFile, Mapping, PreviewRow, StudioTask } from "../protocol";
import { BlobDirectory } from "./directories";
import { forNewLabels } from "./model";
import type { OpenedModel } from "./model";
import { lengthsPicture } from "./pictures";
import { guessColumns, Problems, readTable } from "./table";
import type { Table } from "./table";

const IMAGE = /\.(?:png|jpe?g)$/i;
/** Names of files to evaluate on. */
const DEV = /^(?:dev|valid|validation|val|eval|test)\b/i;
/** Tokens of a row at most, unless the user allows more: attention's memory grows with them. */
const USUAL_LIMIT = 512;
const PREVIEW_ROWS = 6;
/** So that the same file is split in the same way whenever it is read. */
const SPLIT_SEED = 1;

/** The user's files, by what is in them. */
type FileKind = "table" | "lines" | "text" | "images";

const baseName = (path: string): string => path.split("/").at(-1)!;

function kindOf(files: readonly GivenFile[]): FileKind {
  if (files.some(({ path }) => IMAGE.test(path))) return "images";
  const names = files.map(({ path }) => path.toLowerCase());
  if (names.some((name) => /\.(?:csv|tsv)$/.test(name))) return "table";
  if (names.some((name) => /\.jsonl$/.test(name))) return "lines";
  if (names.some((name) => /\.txt$/.test(name))) return "text";
  throw new DataError(
    `nothing here reads ${
      files.length === 0
        ? "an empty folder"
        : files
            .slice(0, 3)
            .map(({ path }) => baseName(path))
            .join(", ")
    }`,
    "give a .csv, .tsv, .jsonl or .txt file, or a folder of PNG or JPEG images with a folder for each class",
  );
}

const ENDINGS: Readonly<Record<FileKind, RegExp>> = {
  table: /\.(?:csv|tsv)$/i,
  lines: /\.jsonl$/i,
  text: /\.txt$/i,
  images: IMAGE,
};

/** The file to train on, and the one to evaluate on where there is one. */
function chosenFiles(files: readonly GivenFile[], kind: FileKind): { train: GivenFile; dev: GivenFile | undefined } {
  const fitting = files.filter(({ path }) => ENDINGS[kind].test(path));
  const devs = fitting.filter(({ path }) => DEV.test(baseName(path)));
  const others = fitting.filter((file) => !devs.includes(file));
  const train = others.find(({ path }) => /^train\b/i.test(baseName(path))) ?? others[0] ?? devs[0]!;
  return { train, dev: devs.find((file) => file !== train) };
}

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

/** Examples of a task, before they are tokenised. */
interface Part {
  readonly examples: readonly Example[];
  readonly conversations: readonly Conversation[];
  readonly images: readonly ImageSample[];
}

const EMPTY: Part = { examples: [], conversations: [], images: [] };

const sizeOf = ({ examples, conversations, images }: Part): number =>
  Math.max(examples.length, conversations.length, images.length);

/** The examples of a part whose numbers are chosen. */
function chosenOf({ examples, conversations, images }: Part, isChosen: (index: number) => boolean): Part {
  const chosen = <T>(all: readonly T[]): T[] => all.filter((_, i) => isChosen(i));
  return { examples: chosen(examples), conversations: chosen(conversations), images: chosen(images) };
}

interface Rows {
  readonly train: readonly Sample[];
  readonly dev: readonly Sample[];
}

/** The data of a run. */
export class StudioData {
  readonly #rows = new Map<number, Rows>();
  facts!: DataFacts;

  private constructor(
    readonly files: readonly GivenFile[],
    readonly mapping: Mapping,
    /** Where the model is loaded from, which may have other classes than its own files say. */
    readonly directory: Directory,
    readonly head: HeadOptions,
    readonly model: Model,
    readonly labelNames: readonly string[],
    private readonly tokenizer: Tokenizer | undefined,
    private readonly train: Part,
    private readonly dev: Part,
    /** The files of a plain text. */
    private readonly texts: { readonly train: GivenFile; readonly dev: GivenFile | undefined } | undefined,
  ) {}

  /** Reads files. @throws DataError for files that the model cannot learn from. */
  static async read(files: readonly GivenFile[], opened: OpenedModel, given?: Mapping): Promise<StudioData> {
    const kind = kindOf(files);
    const { tasks, family } = opened.facts;
    const possible = TASKS[kind].filter((task) => tasks.includes(task));
    const chosen = chosenFiles(files, kind);
    const isChat = kind === "lines" && (await isConversation(chosen.train));
    const task =
      given && possible.includes(given.task)
        ? given.task
        : (possible.find((each) => (each === "answer") === isChat) ?? possible[0]);
    if (task === undefined || (isChat && task !== "answer")) {
      const can = tasks.map((each) => TASK_WORDS[each]).join(" or ");
      const wanted = TASK_WORDS[isChat ? "answer" : TASKS[kind][0]!];
      throw new DataError(
        `these files teach a model to ${wanted}, and this ${family} can learn to ${can}`,
        "give other files, or another model",
      );
    }
    const problems = new Problems();
    const tokenizer = task === "images" ? undefined : await opened.tokenizer();
    const usual = { task, eachAnswer: given?.eachAnswer ?? false, devShare: given?.devShare ?? 0.1 };
    const read = await readParts({ files, chosen, opened, problems, isChat, task, given, usual });
    const { mapping, columns } = read;
    const { labelNames, directory, head, config } = labelsFor(task, read.names, opened);
    const model = createModel(withHead(config, head));
    const parts = read.parts(labelNames);
    const { train, dev } = chosen.dev || task === "text" ? parts : splitPart(parts.train, mapping.devShare);
    const texts = task === "text" ? chosen : undefined;
    const data = new StudioData(files, mapping, directory, head, model, labelNames, tokenizer, train, dev, texts);
    await data.#describe(chosen.dev?.path, columns, problems);
    return data;
  }

  /** Rows of at most so many tokens. */
  async rows(length: number): Promise<Rows> {
    const known = this.#rows.get(length);
    if (known) return known;
    const rows = this.texts
      ? await this.#blocks(length)
      : { train: this.#encoded(this.train, length), dev: this.#encoded(this.dev, length) };
    this.#rows.set(length, rows);
    return rows;
  }

  #encoded(part: Part, maxLength: number): readonly Sample[] {
    const { tokenizer, model } = this;
    if (!tokenizer || sizeOf(part) === 0) return [];
    const { vocabularySize, classes } = model;
    if (this.mapping.task === "classify") {
      return encodeExamples(part.examples, tokenizer, { maxLength, vocabularySize, classes }).samples;
    }
    if (model.encoderDecoder) return pairSamples(answerPairs(part.conversations), tokenizer, { maxLength }).samples;
    checkAnswersEnd(part.conversations, tokenizer);
    return conversationSamples(part.conversations, tokenizer, { maxLength, vocabularySize }).samples;
  }

  async #blocks(length: number): Promise<Rows> {
    const { train, dev } = this.texts!;
    const read = async ({ path, file }: GivenFile): Promise<Sample[]> => {
      const directory = new BlobDirectory("the given files", [[baseName(path), file]]);
      return blockSamples(await readBlocks(directory, baseName(path), this.tokenizer!, { length }));
    };
    const rows = await read(train);
    if (dev) return { train: rows, dev: await read(dev) };
    const count = heldOut(rows.length, this.mapping.devShare);
    const indices = new Set(stratifiedSample(rows, count, SPLIT_SEED));
    return { train: rows.filter((_, i) => !indices.has(i)), dev: rows.filter((_, i) => indices.has(i)) };
  }

  async trainBatches(size: number, length: number, seed: number): Promise<BatchSource> {
    if (this.mapping.task === "images") return new ImageBatches(this.train.images, this.model, { size, seed });
    const { train } = await this.rows(length);
    return new Batches(train, { size, seed, padId: this.model.padId, labels: LABEL_KINDS[this.model.task] });
  }

  /** Batches to evaluate on, in order; undefined for none. */
  async devBatches(size: number, length: number): Promise<(() => Iterable<Batch>) | undefined> {
    const { model } = this;
    if (this.mapping.task === "images") {
      const { images } = this.dev;
      return images.length === 0
        ? undefined
        : () => new ImageBatches(images, model, { size, shuffle: false }).restOfEpoch();
    }
    const { dev } = await this.rows(length);
    const options = { size, shuffle: false, padId: model.padId, labels: LABEL_KINDS[model.task] };
    return dev.length === 0 ? undefined : () => new Batches(dev, options).restOfEpoch();
  }

  /** The loss of rows whose tokens count differently. */
  async loss(length: number): Promise<Objective | undefined> {
    if (this.mapping.task === "images") return undefined;
    const { train, dev } = await this.rows(length);
    return [...train, ...dev].some(({ weights }) => weights) ? weightedTokens() : undefined;
  }

  /** The longest row that the user's files and the model give. */
  get longest(): number {
    return this.facts.longest;
  }

  async #describe(devFile: string | undefined, columns: readonly string[], problems: Problems): Promise<void> {
    const { mapping, model, tokenizer, labelNames, files } = this;
    const limit = Math.min(model.maxLength, tokenizer?.modelMaxLength ?? Infinity);
    const most = mapping.task === "images" ? model.maxLength : Math.min(limit, this.texts ? 128 : USUAL_LIMIT);
    const isImages = mapping.task === "images";
    const { train, dev } = isImages ? { train: [], dev: [] } : await this.rows(most);
    const lengths = train.map(({ ids }) => ids.length).sort((a, b) => a - b);
    const counts = labelNames.map((name, label) => ({
      name,
      count: [...this.train.examples, ...this.train.images].filter((each) => each.label === label).length,
    }));
    this.facts = {
      files: files.slice(0, 50).map(({ path }) => path),
      mapping,
      columns,
      train: isImages ? this.train.images.length : train.length,
      dev: isImages ? this.dev.images.length : dev.length,
      devFile,
      labels: counts,
      problems: problems.first,
      problemCount: problems.count,
      preview: train.slice(0, PREVIEW_ROWS).map((sample) => this.#previewOf(sample)),
      longest: isImages ? model.maxLength : (lengths.at(-1) ?? 1),
      usual: isImages ? model.maxLength : (lengths[Math.floor(0.95 * (lengths.length - 1))] ?? 1),
      histogram: lengths.length > 0 && !this.texts ? lengthsPicture(lengths) : undefined,
    };
  }

  #previewOf({ ids, label }: Sample): PreviewRow {
    const spell = (id: number): string => this.tokenizer!.decode([id], { keepSpecial: true });
    const isClass = typeof label === "number";
    const isTarget = !isClass && this.model.encoderDecoder !== undefined;
    const tokens = Array.from(ids, (id, i) => ({
      text: spell(id),
      isLearnt: !isClass && !isTarget && label[i] !== IGNORED_LABEL,
    }));
    const target = isTarget ? Array.from(label, (id) => ({ text: spell(id), isLearnt: true })) : [];
    return { tokens: [...tokens, ...target], label: isClass ? this.labelNames[label] : undefined };
  }
}

/** How many of so many examples are kept for evaluation. */
const heldOut = (count: number, share: number): number =>
  share === 0 || count < 2 ? 0 : Math.min(count - 1, Math.max(1, Math.round(count * share)));

function splitPart(part: Part, share: number): { train: Part; dev: Part } {
  const size = sizeOf(part);
  const labels = Array.from({ length: size }, (_, i) => part.examples[i]?.label ?? part.images[i]?.label);
  const dev = new Set(stratifiedSample(labels, heldOut(size, share), SPLIT_SEED));
  return { train: chosenOf(part, (i) => !dev.has(i)), dev: chosenOf(part, (i) => dev.has(i)) };
}

/** Whether the first line of a file of JSON lines is a conversation. */
async function isConversation({ file }: GivenFile): Promise<boolean> {
  const start = (await file.slice(0, 1 << 20).text()).split("\n").find((line) => line.trim() !== "") ?? "";
  return /"(?:messages|instruction|prompt|source)"\s*:/.test(start);
}

interface ReadOptions {
  readonly files: readonly GivenFile[];
  readonly chosen: { readonly train: GivenFile; readonly dev: GivenFile | undefined };
  readonly opened: OpenedModel;
  readonly problems: Problems;
  readonly isChat: boolean;
  readonly task: StudioTask;
  readonly given: Mapping | undefined;
  readonly usual: Pick<Mapping, "task" | "eachAnswer" | "devShare">;
}

interface ReadParts {
  readonly mapping: Mapping;
  readonly columns: readonly string[];
  /** Names of the classes in the data, in order. */
  readonly names: readonly string[];
  /** The examples, with labels as positions in a list of names. */
  parts(labelNames: readonly string[]): { readonly train: Part; readonly dev: Part };
}

const NO_COLUMNS = { header: false, text: -1, pair: -1, label: -1 } as const;

async function readParts(options: ReadOptions): Promise<ReadParts> {
  const { task, isChat, chosen, usual } = options;
  if (task === "images") return imageParts(options);
  if (task === "text") {
    return {
      mapping: { ...usual, ...NO_COLUMNS },
      columns: [],
      names: [],
      parts: () => ({ train: EMPTY, dev: EMPTY }),
    };
  }
  if (isChat) return chatParts(options);
  const read = ({ path, file }: GivenFile, header?: boolean): Promise<Table> => {
    const name = baseName(path);
    return readTable(new BlobDirectory("the given files", [[name, file]]), name, options.problems, header);
  };
  const train = await read(chosen.train, options.given?.header);
  const dev = chosen.dev && (await read(chosen.dev, train.header));
  return tableParts(train, dev, options);
}

function tableParts(train: Table, dev: Table | undefined, { given, usual, task, problems }: ReadOptions): ReadParts {
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
      problems.add(
        file,
        line,
        `the label ${JSON.stringify(name.slice(0, 40))} is not one of the others`,
        "Correct it.",
      );
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

async function chatParts({ chosen, opened, problems, usual }: ReadOptions): Promise<ReadParts> {
  const template = opened.facts.tasks.includes("answer") ? await opened.chatTemplate() : undefined;
  const read = async ({ path, file }: GivenFile): Promise<Part> => {
    const name = baseName(path);
    const conversations = await readConversations(new BlobDirectory("the given files", [[name, file]]), name, {
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
  const parts = { train: await read(chosen.train), dev: chosen.dev ? await read(chosen.dev) : EMPTY };
  return { mapping: { ...usual, ...NO_COLUMNS }, columns: [], names: [], parts: () => parts };
}

/** Images by the folder that they are in. */
async function imageParts({ files, opened, problems, usual }: ReadOptions): Promise<ReadParts> {
  const images = files.filter(({ path }) => IMAGE.test(path));
  const classOf = ({ path }: GivenFile): string => path.split("/").at(-2) ?? "";
  const names = [...new Set(images.map(classOf))].sort();
  if (names.length < 2) {
    throw new DataError("the images are all in one folder", "give a folder with a folder for each class");
  }
  const spec = imageSpec(createModel(opened.config));
  const preprocessor = await readPreprocessor(opened.directory);
  const read: { readonly name: string; readonly image: ImageSample }[] = [];
  for (const given of images) {
    const file = baseName(given.path);
    try {
      const directory = new BlobDirectory(classOf(given), [[file, given.file]]);
      const [image] = await readImages([{ directory, file, label: 0 }], { spec, preprocessor });
      read.push({ name: classOf(given), image: image! });
    } catch (error) {
      if (!(error instanceof DataError)) throw error;
      problems.addError(given.path, undefined, error);
    }
  }
  // The pixels of a prepared image are made whenever they are read: a copy would hold all of them.
  const labelled = (image: ImageSample, label: number): ImageSample => ({
    label,
    get pixels() {
      return image.pixels;
    },
  });
  return {
    mapping: { ...usual, ...NO_COLUMNS },
    columns: [],
    names,
    parts: (labelNames) => ({
      train: { ...EMPTY, images: read.map(({ name, image }) => labelled(image, labelNames.indexOf(name))) },
      dev: EMPTY,
    }),
  };
}

/** The classes of a run: the model's own where the data have no others, or new ones. */
function labelsFor(
  task: StudioTask,
  names: readonly string[],
  opened: OpenedModel,
): {
  readonly labelNames: readonly string[];
  readonly directory: Directory;
  readonly head: HeadOptions;
  readonly config: Readonly<Record<string, unknown>>;
} {
  const { directory, config } = opened;
  if (task === "answer" || task === "text") return { labelNames: [], directory, config, head: { task: "generation" } };
  const head: HeadOptions = { task: task === "images" ? "image_classification" : "sequence_classification" };
  const { labels: own } = opened.facts;
  const areOwn =
    names.every((name) => own.includes(name)) ||
    (task === "classify" && names.every((name) => /^\d+$/.test(name) && Number(name) < own.length));
  const isClassifier = createModel(config).task === head.task;
  if (isClassifier && own.length > 1 && areOwn) return { labelNames: own, directory, config, head };
  return { labelNames: names, ...forNewLabels(opened), head: { ...head, labelNames: names } };
}
