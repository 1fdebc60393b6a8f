import * as v from "valibot";
import { readAgNews } from "../../data/ag-news";
import type { AnswerSamples } from "../../data/answers";
import { e2ePrompts, e2eSamples, readE2e } from "../../data/e2e";
import type { E2eExample } from "../../data/e2e";
import type { Dataset } from "../../data/example";
import type { GlueTaskName } from "../../data/glue-tasks";
import { readGlue } from "../../data/glue";
import { chatEndIds, checkAnswersEnd, conversationSamples, promptIds, readConversations } from "../../data/jsonl";
import type { Conversation } from "../../data/chat";
import { readBlocks } from "../../data/lines";
import { framedSamples, MaskedBatches, maskingOf, specialCount } from "../../data/masked-batches";
import type { UnlabelledSample } from "../../data/masked-batches";
import { e2eScores } from "../../data/metrics-e2e";
import { squadScores } from "../../data/metrics-squad";
import { bleu, rouge } from "../../data/metrics-text";
import type { Generated } from "../../data/metrics-text";
import { answerPairs, pairSamples, readPairs } from "../../data/pairs";
import type { TextPair } from "../../data/pairs";
import { blockSamples, encodeExamples } from "../../data/sample";
import type { Sample, Samples } from "../../data/sample";
import { readSamsum, summaryConversations, summaryPrompt } from "../../data/samsum";
import type { DialogueSummary } from "../../data/samsum";
import { decodeSpans, readSquad, squadFeatures } from "../../data/squad";
import type { SpanScores, SquadExample, SquadFeature } from "../../data/squad";
import type { Tokenizer } from "../../data/tokenizer";
import type { WordNet } from "../../data/wordnet";
import type { Continuation } from "../../generate/options";
import type { Directory } from "../../io/directory";
import type { Model } from "../../model/model";
import { UsageError } from "../options";
import { publishedSplit } from "./published-split";
import { devSet, labelPositions, taskFiles, textData, unknownClass } from "./task-data";
import type {
  EvaluationPart,
  GenerationData,
  ScoredSet,
  Scorer,
  TaskData,
  TaskFileNames,
  TaskFiles,
  TaskOptions,
} from "./task-data";

/**
 * Reads GLUE's train.tsv and dev.tsv. MNLI has two dev sets: the mismatched one is evaluated too, or, where the split says so,
 * takes the matched one's place, which then is for tests.
 */
export async function readGlueTask(task: GlueTaskName, options: TaskOptions): Promise<TaskData> {
  const devFile = task === "mnli" ? "dev_matched.tsv" : "dev.tsv";
  const files = await taskFiles(options, { train: ["train.tsv"], dev: [devFile] });
  const data = await classifiedTexts(options, files, (file) => readGlue(files.folder, file, task));
  const mismatchedFile = "dev_mismatched.tsv";
  if (task !== "mnli" || files.dev !== devFile || !(await hasFile(files.folder, mismatchedFile))) return data;
  const onlyDev = { ...files, train: undefined, dev: mismatchedFile };
  const mismatched = await classifiedTexts(options, onlyDev, (file) => readGlue(files.folder, file, task));
  const truncated = data.truncated + mismatched.truncated;
  const isValidation = options.split === "mismatched";
  const [first, second] = isValidation ? [mismatched, data] : [data, mismatched];
  const moreDevSets = { [isValidation ? "test" : "mismatched"]: { batches: second.dev! } };
  return { ...data, dev: first.dev, truncated, moreDevSets };
}

/** Reads AG News' train.csv, and dev.csv or test.csv. Where both are there, the latter is a test set. */
export async function readAgNewsTask(options: TaskOptions): Promise<TaskData> {
  const files = await taskFiles(options, { train: ["train.csv"], dev: ["dev.csv", "test.csv"], test: ["test.csv"] });
  return classifiedTexts(options, files, (file) => readAgNews(files.folder, file));
}

/** Texts with classes or scores. Labels are positions in `labelNames` if these are given. */
async function classifiedTexts(
  options: TaskOptions,
  { train: trainFile, dev: devFile, part: devPart, folder }: TaskFiles,
  readFile: (file: string) => Promise<Dataset>,
): Promise<TaskData> {
  const { model, maxLength, labelNames: target, choose } = options;
  const tokenizer = await options.tokenizer();
  const isRegression = model.task === "regression";
  const classes = isRegression ? {} : { classes: model.classes };
  let labelNames: readonly string[] | undefined;
  const read = async (part: "train" | EvaluationPart, file: string | undefined): Promise<Samples> => {
    if (file === undefined) return { samples: [], truncated: 0 };
    const { examples: all, labelNames: names } = await readFile(file);
    const examples = choose(part, all, isRegression ? undefined : ({ label }) => label);
    const positions = labelPositions(names, target);
    labelNames = target ?? names;
    const known = examples.map((example) => {
      const label = positions?.[example.label] ?? example.label;
      if (label >= 0 || !target || !names || example.label < 0) return { ...example, label };
      throw unknownClass(`${file} in ${folder.name}`, names[example.label]!, target);
    });
    return encodeExamples(known, tokenizer, { maxLength, vocabularySize: model.vocabularySize, ...classes });
  };
  const [train, dev] = [await read("train", trainFile), await read(devPart, devFile)];
  return {
    ...textData(options, train.samples, dev.samples),
    labelNames,
    truncated: train.truncated + dev.truncated,
  };
}

/** Reads SQuAD v1.1's train-v1.1.json and dev-v1.1.json. */
export async function readSquadTask(taskOptions: TaskOptions): Promise<TaskData> {
  const { model, maxLength, split, choose, ...load } = taskOptions;
  const names = { train: ["train-v1.1.json"], dev: ["dev-v1.1.json"] };
  const { folder, train: trainFile, dev } = await taskFiles(taskOptions, names);
  const tokenizer = await load.tokenizer();
  const options = { maxLength, stride: Math.min(128, Math.floor(maxLength / 3)) };
  const trainExamples = trainFile === undefined ? [] : choose("train", await readSquad(folder, trainFile));
  const devExamples = dev === undefined ? [] : choose("dev", await readSquad(folder, dev));
  const parts = publishedSplit(split, trainExamples, devExamples);
  const samplesOf = (features: readonly SquadFeature[]): Sample[] => features.map(({ sample }) => sample);
  const scored = (examples: readonly SquadExample[]): ScoredSet => {
    const features = squadFeatures(examples, tokenizer, options);
    return { batches: devSet(taskOptions, samplesOf(features)), scorer: () => squadScorer(examples, features) };
  };
  const validation = parts.validation.length > 0 ? scored(parts.validation) : undefined;
  const data = {
    ...textData({ ...taskOptions, split: undefined }, samplesOf(squadFeatures(parts.train, tokenizer, options)), []),
    dev: validation?.batches,
    ...(validation && { scorer: validation.scorer }),
  };
  return parts.test.length > 0 ? { ...data, moreDevSets: { test: scored(parts.test) } } : data;
}

/** Finds the answers of questions in the logits of their features, and scores them. */
function squadScorer(examples: readonly SquadExample[], features: readonly SquadFeature[]): Scorer {
  const scores: SpanScores[] = [];
  return {
    see({ rows, length }, logits) {
      // Logits are [rows, length, 2]: the scores of a span's start and end.
      const scoresOf = (row: number, side: 0 | 1): Float32Array =>
        Float32Array.from({ length }, (_, i) => logits[2 * (row * length + i) + side]!);
      for (let row = 0; row < rows; row++) scores.push({ start: scoresOf(row, 0), end: scoresOf(row, 1) });
    },
    metrics: () => ({ ...squadScores(decodeSpans(examples, features, scores), examples) }),
  };
}

/**
 * Reads E2E's trainset.csv, devset.csv and testset_w_refs.csv. A training example is a meaning with one of its texts. The
 * meanings of the dev set are prompts to generate from.
 */
export async function readE2eTask(options: TaskOptions): Promise<TaskData> {
  const { model, maxLength, wordNet, choose, ...load } = options;
  const names = { train: ["trainset.csv"], dev: ["devset.csv"], test: ["testset_w_refs.csv"] };
  const { folder, train: trainFile, dev: devFile, part } = await taskFiles(options, names);
  const tokenizer = await load.tokenizer();
  const examples = devFile === undefined ? [] : choose(part, await readE2e(folder, devFile));
  const samplesOf = (all: readonly E2eExample[]): AnswerSamples =>
    model.encoderDecoder
      ? pairSamples(all.flatMap(e2ePairs), tokenizer, { maxLength })
      : e2eSamples(all, tokenizer, { maxLength });
  const texts = trainFile === undefined ? undefined : (await readE2e(folder, trainFile)).flatMap(oneByOne);
  const train = texts && samplesOf(choose("train", texts));
  const data = answerData(options, train, examples.length > 0 ? samplesOf(examples) : undefined);
  return examples.length > 0 ? { ...data, generation: e2eGeneration(model, examples, tokenizer, wordNet) } : data;
}

/** What an encoder reads and a decoder writes for a meaning. */
const e2ePairs = ({ meaning, references }: E2eExample): TextPair[] =>
  references.map((target) => ({ source: meaning, target }));

/** A meaning with each of its texts alone. */
const oneByOne = ({ meaning, references }: E2eExample): E2eExample[] =>
  references.map((reference) => ({ meaning, references: [reference] }));

/**
 * Reads SAMSum's train.json, and val.json, dev.json or test.json; where there are two, the last one is a test set. Its
 * dialogues are prompts, scored by ROUGE.
 */
export async function readSamsumTask(options: TaskOptions): Promise<TaskData> {
  const { model, maxLength, choose, ...load } = options;
  const dev = ["val.json", "dev.json", "test.json"];
  const files = await taskFiles(options, { train: ["train.json"], dev, test: ["test.json"] });
  const tokenizer = await load.tokenizer();
  const read = async (file: string) => (await readSamsum(files.folder, file)).examples;
  const sourceOf = ({ dialogue }: DialogueSummary): string => `${summaryPrefix(model)}${dialogue}`;
  const samplesOf = (all: readonly DialogueSummary[]): AnswerSamples => {
    const pairs = all.map((example) => ({ source: sourceOf(example), target: example.summary }));
    return model.encoderDecoder
      ? pairSamples(pairs, tokenizer, { maxLength })
      : conversationSamples(summaryConversations(all), tokenizer, { maxLength });
  };
  const train = files.train === undefined ? undefined : samplesOf(choose("train", await read(files.train)));
  if (files.dev === undefined) return answerData(options, train, undefined);
  const examples = choose(files.part, await read(files.dev));
  return {
    ...answerData(options, train, samplesOf(examples)),
    generation: {
      // Of a dialogue that is too long, the end is summarised.
      prompts: examples.map((example) =>
        model.encoderDecoder
          ? tokenizer.encode(sourceOf(example), undefined, { maxLength }).ids
          : endOfPrompt(summaryPrompt(example), tokenizer, maxLength),
      ),
      endIds: tokenizer.endIds,
      tokenizer,
      score: (continuations) => {
        const references = examples.map(({ summary }) => [summary]);
        return { ...rouge(generatedTexts(continuations, references, tokenizer)) };
      },
    },
  };
}

/** The begin tokens and the last tokens of a prompt, together at most `maxLength`. */
function endOfPrompt(text: string, tokenizer: Tokenizer, maxLength: number): Int32Array {
  const ids = promptIds(text, tokenizer);
  if (ids.length <= maxLength) return ids;
  const begin = tokenizer.beginIds;
  return Int32Array.from([...begin, ...ids.slice(ids.length - Math.max(1, maxLength - begin.length))]);
}

/** What T5's pre-training puts before a text to summarise; nothing for models whose configuration has no such prefix. */
function summaryPrefix({ config }: Model): string {
  const params = v.object({ summarization: v.object({ prefix: v.string() }) });
  const { success, output } = v.safeParse(v.object({ task_specific_params: params }), config);
  return success ? output.task_specific_params.summarization.prefix : "";
}

/** Continuations as texts, with the references of each. */
function generatedTexts(
  continuations: readonly Continuation[],
  references: readonly (readonly string[])[],
  tokenizer: Tokenizer,
): Generated[] {
  return references.map((own, i) => ({
    text: tokenizer.decode(continuations[i]?.ids ?? []).trim(),
    references: own,
  }));
}

/** Meanings to generate texts from, and the challenge's metrics of these texts. */
export function e2eGeneration(
  { encoderDecoder }: Pick<Model, "encoderDecoder">,
  examples: readonly E2eExample[],
  tokenizer: Tokenizer,
  wordNet: WordNet | undefined,
): GenerationData {
  return {
    prompts: encoderDecoder
      ? examples.map(({ meaning }) => tokenizer.encode(meaning).ids)
      : e2ePrompts(examples, tokenizer),
    endIds: tokenizer.endIds,
    tokenizer,
    score: (continuations) => {
      const references = examples.map((example) => example.references);
      return e2eScores(generatedTexts(continuations, references, tokenizer), wordNet);
    },
  };
}

/** Reads chats, instructions or completions from train.jsonl, dev.jsonl and test.jsonl. */
export async function readChatTask(options: TaskOptions): Promise<TaskData> {
  const { model, maxLength, eachAnswer = false, choose, ...load } = options;
  const names = { train: ["train.jsonl"], dev: ["dev.jsonl"], test: ["test.jsonl"] };
  const { folder, train, dev, part: devPart } = await taskFiles(options, names);
  const [tokenizer, template] = [await load.tokenizer(), await load.chatTemplate?.()];
  const reading = { template, eachAnswer };
  const read = async (part: "train" | EvaluationPart, file: string | undefined) =>
    file === undefined
      ? undefined
      : writtenSamples(model, choose(part, await readConversations(folder, file, reading)), tokenizer, maxLength);
  return answerData(options, await read("train", train), await read(devPart, dev));
}

/**
 * Reads pairs of a text to read and one to write from train, dev and test, each .jsonl or .tsv. The sources of the dev set are
 * prompts, scored by BLEU and ROUGE.
 */
export async function readPairsTask(options: TaskOptions): Promise<TaskData> {
  const { model, maxLength, choose, ...load } = options;
  const either = (part: string): string[] => [`${part}.jsonl`, `${part}.tsv`];
  const names = { train: either("train"), dev: either("dev"), test: either("test") };
  const files = await taskFiles(options, names);
  const [tokenizer, template] = [await load.tokenizer(), await load.chatTemplate?.()];
  const read = async (part: "train" | EvaluationPart, file: string | undefined) =>
    file === undefined ? [] : choose(part, await readPairs(files.folder, file, { template }));
  const samplesOf = (all: readonly Conversation[]): AnswerSamples | undefined =>
    all.length > 0 ? writtenSamples(model, all, tokenizer, maxLength) : undefined;
  const [train, dev] = [await read("train", files.train), await read(files.part, files.dev)];
  const data = answerData(options, samplesOf(train), samplesOf(dev));
  if (dev.length === 0) return data;
  const pairs = answerPairs(dev);
  const generation: GenerationData = {
    prompts: pairs.map(({ source, isComplete }) =>
      model.encoderDecoder
        ? tokenizer.encode(source, undefined, { maxLength }).ids
        : (isComplete
            ? tokenizer.encode(source, undefined, { specialTokens: false }).ids
            : promptIds(source, tokenizer)
          ).slice(0, maxLength),
    ),
    tokenizer,
    endIds: chatEndIds(tokenizer, pairs.some(({ isComplete }) => isComplete) ? template : undefined),
    score(continuations) {
      const references = pairs.map(({ target }) => [target]);
      const items = generatedTexts(continuations, references, tokenizer);
      return { bleu: bleu(items), ...rouge(items) };
    },
  };
  return { ...data, generation };
}

/**
 * Samples of the answers of conversations: for an encoder-decoder each after what precedes it, else all in one row.
 * @throws DataError where nothing says how answers end.
 */
function writtenSamples(
  { encoderDecoder, vocabularySize }: Model,
  conversations: readonly Conversation[],
  tokenizer: Tokenizer,
  maxLength: number,
): AnswerSamples {
  if (encoderDecoder) return pairSamples(answerPairs(conversations), tokenizer, { maxLength });
  checkAnswersEnd(conversations, tokenizer);
  return conversationSamples(conversations, tokenizer, { maxLength, vocabularySize });
}

function answerData(options: TaskOptions, train: AnswerSamples | undefined, dev: AnswerSamples | undefined): TaskData {
  return {
    ...textData(options, train?.samples ?? [], dev?.samples ?? []),
    truncated: (train?.truncated ?? 0) + (dev?.truncated ?? 0),
    dropped: (train?.dropped ?? 0) + (dev?.dropped ?? 0),
  };
}

const TEXT_FILES: TaskFileNames = {
  train: ["train.txt", "wiki.train.raw", "wiki.train.tokens"],
  dev: ["dev.txt", "wiki.valid.raw", "wiki.valid.tokens"],
  test: ["test.txt", "wiki.test.raw", "wiki.test.tokens"],
};

const readTextBlocks = (folder: Directory, file: string, tokenizer: Tokenizer, length: number): Promise<Int32Array[]> =>
  readBlocks(folder, file, tokenizer, { length, asWikiText: /^wiki\..+\.(?:raw|tokens)$/.test(file) });

/** Reads the files of `readTextTask` as rows between the special tokens of a text, some of whose tokens are to be predicted. */
export async function readMaskedTask(options: TaskOptions): Promise<TaskData> {
  const { model, maxLength, choose } = options;
  const { folder, train, dev, ...files } = await taskFiles(options, TEXT_FILES);
  const tokenizer = await options.tokenizer();
  const masking = { ...maskingOf(tokenizer), padId: model.padId };
  const length = maxLength - specialCount(tokenizer);
  const read = async (part: "train" | EvaluationPart, file: string | undefined): Promise<UnlabelledSample[]> =>
    file === undefined
      ? []
      : framedSamples(choose(part, await readTextBlocks(folder, file, tokenizer, length)), tokenizer);
  const [trainRows, devRows] = [await read("train", train), await read(files.part, dev)];
  return {
    train: (size, seed) => new MaskedBatches(trainRows, { ...masking, size, seed }),
    // A new source for every evaluation, so that all have the same masks.
    dev:
      devRows.length > 0
        ? (size) => new MaskedBatches(devRows, { ...masking, size, shuffle: false }).restOfEpoch()
        : undefined,
    truncated: 0,
  };
}

/**
 * Reads a text file, or a folder with train.txt, dev.txt and test.txt or WikiText's wiki.train.raw, wiki.valid.raw and
 * wiki.test.raw (or .tokens).
 */
export async function readTextTask(options: TaskOptions): Promise<TaskData> {
  const { model, maxLength: length, choose, ...load } = options;
  if (model.encoderDecoder) {
    throw new UsageError(
      `--task lm has no texts to write for the decoder of ${model.family}.`,
      "Give it pairs of texts, with --task pairs, or use a causal model.",
    );
  }
  const { folder, train, dev, ...files } = await taskFiles(options, TEXT_FILES);
  const tokenizer = await load.tokenizer();
  const read = async (part: "train" | EvaluationPart, file: string | undefined): Promise<Sample[]> =>
    file === undefined ? [] : blockSamples(choose(part, await readTextBlocks(folder, file, tokenizer, length)));
  return textData(options, await read("train", train), await read(files.part, dev));
}

const hasFile = async (folder: Directory, file: string): Promise<boolean> => (await folder.size(file)) !== undefined;
