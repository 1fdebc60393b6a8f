import { stat } from "node:fs/promises";
import { basename, dirname } from "node:path";
import type { AnswerSamples } from "../data/answers";
import { e2ePrompts, e2eSamples, readE2e } from "../data/e2e";
import type { E2eExample } from "../data/e2e";
import type { GlueTaskName } from "../data/glue-tasks";
import { readGlue } from "../data/glue";
import { conversationSamples, readConversations } from "../data/jsonl";
import { readBlocks } from "../data/lines";
import { e2eScores } from "../data/metrics-e2e";
import { squadScores } from "../data/metrics-squad";
import { blockSamples, encodeExamples } from "../data/sample";
import type { Sample } from "../data/sample";
import { decodeSpans, readSquad, squadFeatures } from "../data/squad";
import type { SpanScores, SquadFeature } from "../data/squad";
import type { Tokenizer } from "../data/tokenizer";
import type { Directory } from "../io/directory";
import { openDirectory } from "../node/directory";
import { devSet, textData } from "./task-data";
import type { TaskData, TaskOptions, Writing } from "./task-data";

/** GLUE's train.tsv and dev.tsv; MNLI's two dev sets, the matched one first. */
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
  const other = "dev_mismatched.tsv";
  if (task !== "mnli" || (await folder.size(other)) === undefined) return data;
  const mismatched = await read(other);
  const truncated = data.truncated + mismatched.truncated;
  return { ...data, truncated, more: { mismatched: devSet(model, mismatched.samples) } };
}

/** SQuAD v1.1's train-v1.1.json and dev-v1.1.json. */
export async function readSquadTask({ path, model, maxLength, tokenizer }: TaskOptions): Promise<TaskData> {
  const folder = await openDirectory(path);
  const own = await tokenizer();
  const options = { maxLength, stride: Math.min(128, Math.floor(maxLength / 3)) };
  const examples = (await has(folder, "dev-v1.1.json")) ? await readSquad(folder, "dev-v1.1.json") : [];
  const features = squadFeatures(examples, own, options);
  const train = squadFeatures(await readSquad(folder, "train-v1.1.json"), own, options);
  const samples = (of: readonly SquadFeature[]): Sample[] => of.map(({ sample }) => sample);
  return {
    ...textData(model, samples(train), samples(features)),
    judge() {
      const scores: SpanScores[] = [];
      return {
        see({ rows, length }, logits) {
          const column = (row: number, which: 0 | 1): Float32Array =>
            Float32Array.from({ length }, (_, i) => logits[2 * (row * length + i) + which]!);
          for (let row = 0; row < rows; row++) scores.push({ start: column(row, 0), end: column(row, 1) });
        },
        metrics: () => ({ ...squadScores(decodeSpans(examples, features, scores), examples) }),
      };
    },
  };
}

/** E2E's trainset.csv and devset.csv; the dev set's meanings are what the model is to write of. */
export async function readE2eTask({ path, model, maxLength, tokenizer }: TaskOptions): Promise<TaskData> {
  const folder = await openDirectory(path);
  const own = await tokenizer();
  const train = e2eSamples(await readE2e(folder, "trainset.csv"), own, { maxLength });
  const examples = (await has(folder, "devset.csv")) ? await readE2e(folder, "devset.csv") : [];
  const dev = examples.length > 0 ? e2eSamples(examples, own, { maxLength }) : undefined;
  const data = answerData(model, train, dev);
  return examples.length > 0 ? { ...data, writing: e2eWriting(examples, own) } : data;
}

/** Meanings to write of, judged by the challenge's scores. */
export function e2eWriting(examples: readonly E2eExample[], tokenizer: Tokenizer): Writing {
  return {
    prompts: e2ePrompts(examples, tokenizer),
    judge: (written) =>
      e2eScores(
        examples.map(({ references }, i) => ({ text: tokenizer.decode(written[i]?.ids ?? []).trim(), references })),
      ),
  };
}

/** Chats, instructions or completions: train.jsonl and dev.jsonl. */
export async function readChatTask({ path, model, maxLength, tokenizer }: TaskOptions): Promise<TaskData> {
  const folder = await openDirectory(path);
  const own = await tokenizer();
  const read = async (file: string) => conversationSamples(await readConversations(folder, file), own, { maxLength });
  const train = await read("train.jsonl");
  return answerData(model, train, (await has(folder, "dev.jsonl")) ? await read("dev.jsonl") : undefined);
}

function answerData(model: TaskOptions["model"], train: AnswerSamples, dev: AnswerSamples | undefined): TaskData {
  return {
    ...textData(model, train.samples, dev?.samples ?? []),
    truncated: train.truncated + (dev?.truncated ?? 0),
    dropped: train.dropped + (dev?.dropped ?? 0),
  };
}

/** A text, or a folder with train.txt and dev.txt, or with WikiText's wiki.train.raw and wiki.valid.raw (or .tokens). */
export async function readTextTask({ path, model, maxLength: length, tokenizer }: TaskOptions): Promise<TaskData> {
  const own = await tokenizer();
  const isFile = (await stat(path).catch(() => undefined))?.isFile() ?? false;
  const folder = await openDirectory(isFile ? dirname(path) : path);
  const blocks = async (file: string) =>
    blockSamples(await readBlocks(folder, file, own, { length, asWikiText: /^wiki\..+\.(?:raw|tokens)$/.test(file) }));
  if (isFile) return textData(model, await blocks(basename(path)), []);
  const names = await folder.list();
  const find = (...choices: string[]): string | undefined => choices.find((name) => names.includes(name));
  const train = find("train.txt", "wiki.train.raw", "wiki.train.tokens") ?? "train.txt";
  const dev = find("dev.txt", "wiki.valid.raw", "wiki.valid.tokens");
  return textData(model, await blocks(train), dev === undefined ? [] : await blocks(dev));
}

const has = async (folder: Directory, file: string): Promise<boolean> => (await folder.size(file)) !== undefined;
