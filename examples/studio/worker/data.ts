// The data of a run: split, tokenised, in batches, and as the page shows them.
import { LABEL_KINDS } from "../../../src/data/batch";
import type { Batch } from "../../../src/data/batch";
import { Batches } from "../../../src/data/batches";
import { ImageBatches } from "../../../src/data/images";
import type { Normalisation } from "../../../src/data/images";
import { checkAnswersEnd, conversationSamples } from "../../../src/data/jsonl";
import { cutBlocks } from "../../../src/data/lines";
import { answerPairs, pairSamples } from "../../../src/data/pairs";
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
import { forNewLabels } from "./model";
import type { OpenedModel } from "./model";
import { lengthsPicture } from "./pictures";
import { readFiles } from "./read";
import type { Part, ReadFiles, StudioImage } from "./read";

/** Tokens of a row at most, whatever the model takes: attention's memory grows with them. */
const MOST_TOKENS = 4096;
/** Tokens of a block of plain text, unless the user chooses others, and the most that the user may choose. */
const USUAL_BLOCK = 128;
const MOST_BLOCK = 2048;
const PREVIEW_ROWS = 6;
/** Tokens of a row that the preview shows. */
const PREVIEW_TOKENS = 200;
/** So that the same file is split in the same way whenever it is read. */
const SPLIT_SEED = 1;

export interface Rows {
  readonly train: readonly Sample[];
  readonly dev: readonly Sample[];
}

/** What the model makes of the classes in the data. */
interface Labels {
  readonly labelNames: readonly string[];
  /** Where the model is loaded from, which may have other classes than its own files say. */
  readonly directory: Directory;
  readonly head: HeadOptions;
  readonly config: Readonly<Record<string, unknown>>;
}

/** The data of a run. */
export class StudioData {
  readonly model: Model;
  readonly facts: DataFacts;
  readonly #parts: { readonly train: Part; readonly dev: Part };
  readonly #rows = new Map<number, Rows>();

  private constructor(
    readonly files: readonly GivenFile[],
    private readonly read: ReadFiles,
    private readonly labels: Labels,
    private readonly tokenizer: Tokenizer | undefined,
  ) {
    this.model = createModel(withHead(labels.config, labels.head));
    const parts = read.parts(labels.labelNames);
    this.#parts = read.devFile === undefined ? splitPart(parts.train, read.mapping.devShare) : parts;
    this.facts = this.#describe();
  }

  /** Reads files. @throws DataError for files that the model cannot learn from. */
  static async open(files: readonly GivenFile[], opened: OpenedModel, given?: Mapping): Promise<StudioData> {
    const read = await readFiles(files, opened, given);
    const { task } = read.mapping;
    const tokenizer = task === "images" ? undefined : await opened.tokenizer();
    return new StudioData(files, read, labelsFor(task, read.names, opened), tokenizer);
  }

  get mapping(): Mapping {
    return this.read.mapping;
  }

  get labelNames(): readonly string[] {
    return this.labels.labelNames;
  }

  get directory(): Directory {
    return this.labels.directory;
  }

  get head(): HeadOptions {
    return this.labels.head;
  }

  /** Images to learn from and to evaluate on, and how their bytes become numbers; undefined for texts. */
  get images():
    | {
        readonly train: readonly StudioImage[];
        readonly dev: readonly StudioImage[];
        readonly normalisation: Normalisation;
      }
    | undefined {
    const { normalisation } = this.read;
    const { train, dev } = this.#parts;
    return normalisation && { train: train.images, dev: dev.images, normalisation };
  }

  /** How many rows of at most so many tokens there are to learn from. */
  countAt(length: number): number {
    const { ids } = this.#parts.train;
    if (this.mapping.task !== "text") return this.facts.train;
    const blocks = Math.floor(ids.length / length);
    return blocks - (this.read.devFile === undefined ? heldOut(blocks, this.mapping.devShare) : 0);
  }

  /** Rows of at most so many tokens; none of images. */
  rows(length: number): Rows {
    const known = this.#rows.get(length);
    if (known) return known;
    const { train, dev } = this.#parts;
    const rows =
      this.mapping.task === "text"
        ? this.#blocks(length)
        : { train: this.#encoded(train, length), dev: this.#encoded(dev, length) };
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

  #blocks(length: number): Rows {
    const { train, dev } = this.#parts;
    const samplesOf = (ids: Int32Array, where: string): Sample[] => blockSamples(cutBlocks(ids, length, where));
    const rows = samplesOf(train.ids, this.read.trainFile);
    if (this.read.devFile !== undefined) {
      return { train: rows, dev: dev.ids.length < length ? [] : samplesOf(dev.ids, this.read.devFile) };
    }
    const isDev = chosenForDev(
      rows.map(() => 0),
      this.mapping.devShare,
    );
    return { train: rows.filter((_, i) => !isDev(i)), dev: rows.filter((_, i) => isDev(i)) };
  }

  trainBatches(size: number, length: number, seed: number): BatchSource {
    if (this.images) return new ImageBatches(this.images.train, this.model, { size, seed });
    const { train } = this.rows(length);
    return new Batches(train, { size, seed, padId: this.model.padId, labels: LABEL_KINDS[this.model.task] });
  }

  /** Batches to evaluate on, in order; undefined for none. */
  devBatches(size: number, length: number): (() => Iterable<Batch>) | undefined {
    const { model, images } = this;
    if (images) {
      if (images.dev.length === 0) return undefined;
      return () => new ImageBatches(images.dev, model, { size, shuffle: false }).restOfEpoch();
    }
    const { dev } = this.rows(length);
    const options = { size, shuffle: false, padId: model.padId, labels: LABEL_KINDS[model.task] };
    return dev.length === 0 ? undefined : () => new Batches(dev, options).restOfEpoch();
  }

  /** The loss of rows whose tokens count differently. */
  loss(length: number): Objective | undefined {
    if (this.images) return undefined;
    const { train, dev } = this.rows(length);
    return [...train, ...dev].some(({ weights }) => weights) ? weightedTokens() : undefined;
  }

  /** The length at which rows are counted and shown, and the longest that a run may choose. */
  #lengths(): { readonly shown: number; readonly most: number } {
    const { model, tokenizer } = this;
    if (this.images) return { shown: model.maxLength, most: model.maxLength };
    const limit = Math.min(model.maxLength, tokenizer?.modelMaxLength ?? Infinity);
    if (this.mapping.task !== "text") {
      const shown = Math.min(limit, MOST_TOKENS);
      return { shown, most: shown };
    }
    // A short text still makes a block to learn from and one to evaluate on.
    const half = Math.max(1, Math.floor(this.#parts.train.ids.length / 2));
    return { shown: Math.min(limit, USUAL_BLOCK, half), most: Math.min(limit, MOST_BLOCK, half) };
  }

  #describe(): DataFacts {
    const { mapping, images, labelNames } = this;
    const { problems, columns, trainFile, devFile, unused } = this.read;
    const { shown, most } = this.#lengths();
    const { train, dev } = images ? { train: [], dev: [] } : this.rows(shown);
    const lengths = train.map(({ ids }) => ids.length).sort((a, b) => a - b);
    const longest = lengths.at(-1) ?? shown;
    const counts = labelNames.map((name, label) => ({
      name,
      count: [...this.#parts.train.examples, ...this.#parts.train.images].filter((each) => each.label === label).length,
    }));
    const isText = mapping.task === "text";
    return {
      mapping,
      columns,
      train: images ? images.train.length : train.length,
      dev: images ? images.dev.length : dev.length,
      trainFile,
      devFile,
      unused: unused.slice(0, 20),
      labels: counts,
      problems: problems.first,
      problemCount: problems.count,
      preview: train.slice(0, PREVIEW_ROWS).map((sample) => this.#previewOf(sample)),
      longest,
      usual: lengths[Math.floor(0.95 * (lengths.length - 1))] ?? shown,
      mostLength: isText ? most : longest,
      histogram: lengths.length > 0 && !isText ? lengthsPicture(lengths) : undefined,
    };
  }

  #previewOf({ ids, label }: Sample): PreviewRow {
    const spell = (id: number): string => this.tokenizer!.decode([id], { keepSpecial: true });
    const isClass = typeof label === "number";
    const isTarget = !isClass && this.model.encoderDecoder !== undefined;
    const isLearnt = (i: number): boolean => !isClass && !isTarget && label[i] !== IGNORED_LABEL;
    const read = Array.from(ids, (id, i) => ({ id, isLearnt: isLearnt(i) }));
    const written = isTarget ? Array.from(label, (id) => ({ id, isLearnt: true })) : [];
    const tokens = [...read, ...written];
    return {
      tokens: tokens
        .slice(0, PREVIEW_TOKENS)
        .map(({ id, isLearnt: learnt }) => ({ text: spell(id), isLearnt: learnt })),
      more: Math.max(0, tokens.length - PREVIEW_TOKENS),
      label: isClass ? this.labelNames[label] : undefined,
    };
  }
}

const sizeOf = ({ examples, conversations, images }: Part): number =>
  Math.max(examples.length, conversations.length, images.length);

/** How many of so many examples are kept for evaluation. */
const heldOut = (count: number, share: number): number =>
  share === 0 || count < 2 ? 0 : Math.min(count - 1, Math.max(1, Math.round(count * share)));

/** Which examples are kept for evaluation: of each label the same share. */
function chosenForDev(labels: readonly unknown[], share: number): (index: number) => boolean {
  const chosen = new Set(stratifiedSample(labels, heldOut(labels.length, share), SPLIT_SEED));
  return (index) => chosen.has(index);
}

/** Plain text is split when it is in blocks. */
function splitPart(part: Part, share: number): { readonly train: Part; readonly dev: Part } {
  const { examples, conversations, images } = part;
  const labels = Array.from({ length: sizeOf(part) }, (_, i) => examples[i]?.label ?? images[i]?.label);
  const isDev = chosenForDev(labels, share);
  const chosenOf = (isChosen: (index: number) => boolean): Part => ({
    ...part,
    examples: examples.filter((_, i) => isChosen(i)),
    conversations: conversations.filter((_, i) => isChosen(i)),
    images: images.filter((_, i) => isChosen(i)),
  });
  return { train: chosenOf((i) => !isDev(i)), dev: chosenOf(isDev) };
}

/** The classes of a run: the model's own where the data have no others, or new ones. */
function labelsFor(task: StudioTask, names: readonly string[], opened: OpenedModel): Labels {
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
