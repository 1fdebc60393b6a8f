import { stat } from "node:fs/promises";
import { basename, dirname } from "node:path";
import type { AnswerSamples } from "../../data/answers";
import { e2ePrompts, e2eSamples, readE2e } from "../../data/e2e";
import type { E2eExample } from "../../data/e2e";
import type { GlueTaskName } from "../../data/glue-tasks";
import { readGlue } from "../../data/glue";
import { conversationSamples, readConversations } from "../../data/jsonl";
import { readBlocks } from "../../data/lines";
import { e2eScores } from "../../data/metrics-e2e";
import { squadScores } from "../../data/metrics-squad";
import { blockSamples, encodeExamples } from "../../data/sample";
import type { Sample } from "../../data/sample";
import { decodeSpans, readSquad, squadFeatures } from "../../data/squad";
import type { SpanScores, SquadFeature } from "../../data/squad";
import type { Tokenizer } from "../../data/tokenizer";
import type { WordNet } from "../../data/wordnet";
import type { Directory } from "../../io/directory";
import { openDirectory } from "../../node/directory";
import { devSet, textData } from "./task-data";
import type { GenerationData, TaskData, TaskOptions } from "./task-data";

/** Reads GLUE's train.tsv and dev.tsv; for MNLI also the mismatched dev set. */
export async function readGlueTask(task: GlueTaskName, options: TaskOptions): Promise<TaskData> {
  const { model, maxLength } = options;
  const folder = await openDirectory(options.path);
  const tokenizer = await options.tokenizer();
  const read = async (file: string) => {
    const { examples } = await readGlue(folder, file, task);
    const classes = model.task === "regression" ? {} : { classes: model.classes };
    return encodeExamples(examples, tokenizer, { maxLength, vocabularySize: model.vocabularySize, ...classes });
  };
  const [train, dev] = [await read("train.tsv"), await read(task === "mnli" ? "dev_matched.tsv" : "dev.tsv")];
  const data = { ...textData(model, train.samples, dev.samples), truncated: train.truncated + dev.truncated };
  const mismatchedFile = "dev_mismatched.tsv";
  if (task !== "mnli" || !(await hasFile(folder, mismatchedFile))) return data;
  const mismatched = await read(mismatchedFile);
  const truncated = data.truncated + mismatched.truncated;
  return { ...data, truncated, moreDevSets: { mismatched: devSet(model, mismatched.samples) } };
}

/** Reads SQuAD v1.1's train-v1.1.json and dev-v1.1.json. */
export async function readSquadTask({ path, model, maxLength, ...load }: TaskOptions): Promise<TaskData> {
  const folder = await openDirectory(path);
  const tokenizer = await load.tokenizer();
  const options = { maxLength, stride: Math.min(128, Math.floor(maxLength / 3)) };
  const examples = (await hasFile(folder, "dev-v1.1.json")) ? await readSquad(folder, "dev-v1.1.json") : [];
  const features = squadFeatures(examples, tokenizer, options);
  const train = squadFeatures(await readSquad(folder, "train-v1.1.json"), tokenizer, options);
  const samplesOf = (all: readonly SquadFeature[]): Sample[] => all.map(({ sample }) => sample);
  return {
    ...textData(model, samplesOf(train), samplesOf(features)),
    scorer() {
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
    },
  };
}

/** Reads E2E's trainset.csv and devset.csv. The meanings of the dev set are prompts to generate from. */
export async function readE2eTask({ path, model, maxLength, wordNet, ...load }: TaskOptions): Promise<TaskData> {
  const folder = await openDirectory(path);
  const tokenizer = await load.tokenizer();
  const train = e2eSamples(await readE2e(folder, "trainset.csv"), tokenizer, { maxLength });
  const examples = (await hasFile(folder, "devset.csv")) ? await readE2e(folder, "devset.csv") : [];
  const dev = examples.length > 0 ? e2eSamples(examples, tokenizer, { maxLength }) : undefined;
  const data = answerData(model, train, dev);
  return examples.length > 0 ? { ...data, generation: e2eGeneration(examples, tokenizer, wordNet) } : data;
}

/** Meanings to generate texts from, and the challenge's metrics of these texts. */
export function e2eGeneration(
  examples: readonly E2eExample[],
  tokenizer: Tokenizer,
  wordNet: WordNet | undefined,
): GenerationData {
  return {
    prompts: e2ePrompts(examples, tokenizer),
    score: (continuations) =>
      e2eScores(
        examples.map(({ references }, i) => ({
          text: tokenizer.decode(continuations[i]?.ids ?? []).trim(),
          references,
        })),
        wordNet,
      ),
  };
}

/** Reads chats, instructions or completions from train.jsonl and dev.jsonl. */
export async function readChatTask({ path, model, maxLength, ...load }: TaskOptions): Promise<TaskData> {
  const folder = await openDirectory(path);
  const tokenizer = await load.tokenizer();
  const read = async (file: string) =>
    conversationSamples(await readConversations(folder, file), tokenizer, { maxLength });
  const train = await read("train.jsonl");
  return answerData(model, train, (await hasFile(folder, "dev.jsonl")) ? await read("dev.jsonl") : undefined);
}

function answerData(model: TaskOptions["model"], train: AnswerSamples, dev: AnswerSamples | undefined): TaskData {
  return {
    ...textData(model, train.samples, dev?.samples ?? []),
    truncated: train.truncated + (dev?.truncated ?? 0),
    dropped: train.dropped + (dev?.dropped ?? 0),
  };
}

/** Reads a text file, or a folder with train.txt and dev.txt or WikiText's wiki.train.raw and wiki.valid.raw (or .tokens). */
export async function readTextTask({ path, model, maxLength: length, ...load }: TaskOptions): Promise<TaskData> {
  const tokenizer = await load.tokenizer();
  const isFile = (await stat(path).catch(() => undefined))?.isFile() ?? false;
  const folder = await openDirectory(isFile ? dirname(path) : path);
  const readSamples = async (file: string) => {
    const asWikiText = /^wiki\..+\.(?:raw|tokens)$/.test(file);
    return blockSamples(await readBlocks(folder, file, tokenizer, { length, asWikiText }));
  };
  if (isFile) return textData(model, await readSamples(basename(path)), []);
  const names = await folder.list();
  const firstOf = (...files: string[]): string | undefined => files.find((file) => names.includes(file));
  const train = firstOf("train.txt", "wiki.train.raw", "wiki.train.tokens") ?? "train.txt";
  const dev = firstOf("dev.txt", "wiki.valid.raw", "wiki.valid.tokens");
  return textData(model, await readSamples(train), dev === undefined ? [] : await readSamples(dev));
}

const hasFile = async (folder: Directory, file: string): Promise<boolean> => (await folder.size(file)) !== undefined;
