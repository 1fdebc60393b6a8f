import { readFile } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import * as v from "valibot";
import { FileFormatError } from "../base/errors";
import { readE2e } from "../data/e2e";
import { e2eMetricsFiles } from "../data/metrics-e2e";
import { chatEndIds, chatPrompt, promptIds } from "../data/jsonl";
import { followingText } from "../data/text-pieces";
import { loadTokenizer } from "../data/tokenizer";
import type { Tokenizer } from "../data/tokenizer";
import { generate } from "../generate/generate";
import type { Continuation, GenerateOptions } from "../generate/options";
import { streamText } from "../generate/stream";
import type { StreamOptions } from "../generate/stream";
import { stopTexts } from "../io/generation-config";
import { jsonBytes, readJson } from "../io/json";
import type { LoadedModel } from "../io/load-model";
import { createModel, withHead } from "../model/families";
import type { Model } from "../model/model";
import { createEngine, loadModel, openDirectory } from "../node/index";
import { loadAdapter } from "../train/files";
import { checkFile } from "./earlier-results";
import { GENERATE, generationSettings, isDrawing, samplingSettings, wordNetFor } from "./flags";
import { needed, readOptions, UsageError } from "./options";
import type { Print, RawOptions, Values } from "./options";
import { readChatTemplate } from "./tasks/task-data";
import { e2eGeneration } from "./tasks/text";
import { progressOn } from "./view/progress";
import { metricWords } from "./view/run-view";
import { Screen } from "./view/screen";

/** Prompts to continue, and what to do with their continuations. */
interface Job {
  readonly prompts: readonly ArrayLike<number>[];
  /** What is printed before each text. */
  readonly starts: readonly string[];
  /** Whether texts go on where the prompts end: a space that is between them belongs to the texts. */
  readonly goesOn?: boolean;
  /** Ids of the tokens that end a text. Default: the configuration's. */
  readonly endIds: readonly number[];
  readonly options?: GenerateOptions;
  finish(continuations: readonly Continuation[], texts: readonly string[]): Promise<void>;
}

/** What writes texts, before its weights are loaded. */
interface Writer {
  readonly model: Model;
  readonly tokenizer: Tokenizer;
}

const CONFIG = v.record(v.string(), v.unknown());

/** `safetape generate`: continues prompts, or generates E2E's texts and scores them. */
export async function generateCommand(raw: RawOptions, print: Print): Promise<void> {
  const options = readOptions(GENERATE, raw);
  checkStream(options);
  const { model: modelPath, adapter: adapterPath, weights: format } = options;
  const directory = await openDirectory(modelPath);
  const tokenizer = await loadTokenizer(directory);
  const model = createModel(withHead(await readJson(directory, "config.json", CONFIG), { task: "generation" }));
  const job =
    options.e2e === undefined
      ? await promptJob(options, { model, tokenizer }, print)
      : await e2eJob(options.e2e, options, raw, { model, tokenizer }, print);
  const screen = new Screen(options.quiet);
  const progress = progressOn(screen);
  using engine = await createEngine();
  using loaded = await progress("loading weights", (onProgress) =>
    loadModel(engine, modelPath, { task: "generation", weights: format, onProgress }),
  );
  const weights = adapterPath === undefined ? undefined : await loadAdapter(await openDirectory(adapterPath), loaded);
  const { stop = stopTexts(loaded.generationConfig) } = options;
  const sampling = samplingSettings(options);
  const unread = unreadSettings(sampling, loaded.generationConfig);
  if (unread !== undefined) screen.say(unread);
  const settings = {
    ...sampling,
    stop,
    tokenizer,
    ...(job.endIds.length > 0 && { endIds: job.endIds }),
    ...job.options,
    ...(weights && { weights }),
  };
  if (options.stream) {
    screen.end();
    const { beams: _, ...others } = generationSettings(options);
    await streamTexts(loaded, job, { ...others, ...settings });
    return;
  }
  const continuations = await progress("generating", (onProgress) => {
    const total = job.prompts.length;
    let finished = 0;
    return generate(loaded, job.prompts, {
      ...generationSettings(options),
      ...settings,
      onDone(done) {
        finished = done;
        onProgress(done, total);
      },
      // A part of the next text.
      onToken: (tokens, most) => onProgress(finished + tokens / most, total),
    });
  });
  screen.end();
  await job.finish(
    continuations,
    continuations.map(({ ids }, i) => followingText(tokenizer, job.goesOn ? job.prompts[i]! : [], ids, stop)),
  );
}

/** @throws UsageError for a stream of what is not known until it ends, or is not printed. */
function checkStream({ stream, beams, json, e2e }: Values<typeof GENERATE>): void {
  const other = beams > 1 ? `--beams ${beams}` : json ? "--json" : e2e === undefined ? undefined : "--e2e";
  if (!stream || other === undefined) return;
  throw new UsageError(`--stream and ${other} exclude each other.`, "Leave one of them out.");
}

/** Prints the texts of prompts as they come. */
async function streamTexts(
  loaded: LoadedModel,
  { prompts, starts, goesOn }: Job,
  options: StreamOptions,
): Promise<void> {
  for (const [i, prompt] of prompts.entries()) {
    process.stdout.write(starts[i]!);
    let isBegun = goesOn ?? false;
    for await (const piece of streamText(loaded, prompt, options)) {
      // A space between the template's text and the answer belongs to neither.
      const written = isBegun ? piece : piece.trimStart();
      isBegun ||= written !== "";
      process.stdout.write(written);
    }
    process.stdout.write("\n");
  }
}

/** A line about settings of generation_config.json that transformers follows and that are not asked for; undefined if there are none. */
function unreadSettings(given: GenerateOptions, config: Readonly<Record<string, unknown>>): string | undefined {
  const { do_sample: draws, repetition_penalty: penalty = 1 } = config;
  const unread = [
    ...(draws === true ? ["do_sample true"] : []),
    ...(penalty !== 1 && penalty !== null && given.repetitionPenalty === undefined
      ? [`repetition_penalty ${JSON.stringify(penalty)}`]
      : []),
  ];
  if (isDrawing(given) || unread.length === 0) return undefined;
  return `generation_config.json says ${unread.join(", ")}, which --sample follows; without it, likeliest tokens are taken.`;
}

/** `--prompt TEXT`, or `--prompts FILE` with one prompt per line. */
async function promptJob(options: Values<typeof GENERATE>, writer: Writer, print: Print): Promise<Job> {
  const { prompt, prompts: path, json, chat } = options;
  const { model } = writer;
  const prompts = path === undefined ? [needed(prompt, "--prompt")] : await readLines(path);
  // A decoder beside an encoder does not continue the prompt, and an answer is not part of a question.
  const starts = prompts.map((text) => (model.encoderDecoder || chat ? "" : text));
  return {
    ...(await encodedPrompts(prompts, options, writer)),
    starts,
    finish(continuations, texts) {
      texts.forEach((text, i) => {
        const { score, hasEnded } = continuations[i]!;
        print(json ? JSON.stringify({ prompt: prompts[i], text, score, hasEnded }) : `${starts[i]}${text}`);
      });
      return Promise.resolve();
    },
  };
}

/** Prompts as the model was trained on them: a text to continue, or messages to answer. */
async function encodedPrompts(
  prompts: readonly string[],
  { chat, system, chatTemplate, model: modelPath }: Values<typeof GENERATE>,
  { model, tokenizer }: Writer,
): Promise<Pick<Job, "prompts" | "endIds" | "goesOn">> {
  const { endIds } = tokenizer;
  if (!chat) {
    const unused = system !== undefined ? "--system" : chatTemplate !== undefined ? "--chat-template" : undefined;
    if (unused !== undefined) throw new UsageError(`${unused} needs --chat.`, "Add --chat, or leave it out.");
    const encode = (text: string): Int32Array =>
      model.encoderDecoder ? tokenizer.encode(text).ids : promptIds(text, tokenizer);
    return { prompts: prompts.map(encode), endIds, goesOn: !model.encoderDecoder };
  }
  if (model.encoderDecoder) {
    throw new UsageError(`--chat is for causal models; ${model.family} has an encoder.`, "Leave out --chat.");
  }
  const template = await readChatTemplate(modelPath, chatTemplate);
  const first = system === undefined ? [] : [{ role: "system", content: system }];
  const encode = (content: string): Int32Array =>
    chatPrompt([...first, { role: "user", content }], tokenizer, { template });
  return { prompts: prompts.map(encode), endIds: chatEndIds(tokenizer, template) };
}

async function readLines(path: string): Promise<string[]> {
  const content = await readFile(path, "utf8").catch(() => {
    throw new FileFormatError(`No file ${path}.`, "Give a text file with one prompt per line.");
  });
  const lines = content.split(/\r?\n/).filter((line) => line.trim() !== "");
  if (lines.length > 0) return lines;
  throw new UsageError(`${path} has no prompts.`, "Give one per line.");
}

const E2E_RESULTS = "generated.json";

/** `--e2e FILE.csv`: a text for every meaning, its scores against the references, and the input of the challenge's scorer. */
async function e2eJob(
  path: string,
  options: Values<typeof GENERATE>,
  raw: RawOptions,
  { model, tokenizer }: Writer,
  print: Print,
): Promise<Job> {
  const examples = await readE2e(await openDirectory(dirname(path)), basename(path));
  const outPath = needed(options.out, "--out");
  if (!options.overwrite) await checkFile(join(outPath, E2E_RESULTS));
  const hasReferences = examples.every(({ references }) => references.length > 0);
  const { prompts, score } = e2eGeneration(model, examples, tokenizer, await wordNetFor(options.meteor));
  return {
    prompts,
    starts: [],
    endIds: tokenizer.endIds,
    // A text may repeat words of its meaning, as in Microsoft's LoRA.
    options: { ngramsOf: "answer" },
    async finish(continuations, texts) {
      const items = examples.map(({ references }, i) => ({ text: texts[i]!.trim(), references }));
      const { system, references } = e2eMetricsFiles(items);
      const scores = hasReferences ? score(continuations) : {};
      const encoder = new TextEncoder();
      const generated = items.map(({ text }, i) => ({
        meaning: examples[i]?.meaning,
        text,
        score: continuations[i]?.score,
      }));
      const out = await openDirectory(outPath, { create: true });
      if (!hasReferences && (await out.size(E2E_RESULTS)) !== undefined) await out.remove?.("references.txt");
      await out.writeTogether([
        { file: "system.txt", content: encoder.encode(system) },
        ...(hasReferences ? [{ file: "references.txt", content: encoder.encode(references) }] : []),
        { file: E2E_RESULTS, content: jsonBytes({ options: raw, scores, texts: generated }) },
      ]);
      if (options.json) print(JSON.stringify({ scores, out: out.name }));
      else print(`${hasReferences ? `${metricWords(scores)}  ` : ""}${items.length} texts in ${out.name}`);
    },
  };
}
