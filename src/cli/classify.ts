import { readFile } from "node:fs/promises";
import { basename, dirname } from "node:path";
import * as v from "valibot";
import { FileFormatError } from "../base/errors";
import type { Batch } from "../data/batch";
import { readImages } from "../data/image-folder";
import { ImageBatches, imageSpec } from "../data/images";
import { readPreprocessor } from "../data/preprocessor";
import { IGNORED_LABEL } from "../data/sample";
import { loadTokenizer } from "../data/tokenizer";
import type { Directory } from "../io/directory";
import { readJson } from "../io/json";
import { createModel, withHead } from "../model/families";
import type { Model } from "../model/model";
import { createEngine, loadModel, openDirectory } from "../node/index";
import { classify } from "../train/classify";
import type { ClassifyOptions, TextToClassify } from "../train/classify";
import { CLASSIFY, headOf } from "./flags";
import { readOptions, UsageError } from "./options";
import type { Print, RawOptions, Values } from "./options";
import { progressOn } from "./view/progress";
import { Screen } from "./view/screen";

const CONFIG = v.record(v.string(), v.unknown());

/** `safetape classify`: the classes of texts or images, as one JSON object a line. */
export async function classifyCommand(files: readonly string[], raw: RawOptions, print: Print): Promise<void> {
  const options = readOptions(CLASSIFY, raw);
  const directory = await openDirectory(options.model);
  const head = headOf(options);
  const model = createModel(withHead(await readJson(directory, "config.json", CONFIG), head));
  const { inputs, subjects, ...reading } = model.image
    ? await imagesOf(files, options, { model, directory })
    : await textsOf(files, options, directory);
  const screen = new Screen(options.quiet);
  const progress = progressOn(screen);
  using engine = await createEngine();
  using loaded = await progress("loading weights", (onProgress) =>
    loadModel(engine, options.model, { ...head, weights: options.weights, onProgress }),
  );
  if (options.adapter === undefined && loaded.initialised.length > 0) {
    throw new UsageError(
      `${options.model} lacks ${loaded.initialised.join(", ")}, which would be random.`,
      "Give the --adapter that was trained with it, or a model with this head.",
    );
  }
  const adapter = options.adapter === undefined ? undefined : await openDirectory(options.adapter);
  const results = await progress("classifying", (onProgress) =>
    classify(loaded, inputs, {
      ...reading,
      adapter,
      batchSize: options.batch,
      maxLength: Math.min(options.maxLength, loaded.model.maxLength),
      onProgress: (done) => onProgress(done, subjects.length),
    }),
  );
  screen.end();
  results.forEach((result, i) => print(JSON.stringify({ ...subjects[i], ...result })));
}

/** What is classified, and what its lines of output say it is. */
interface Subjects extends Pick<ClassifyOptions, "tokenizer"> {
  readonly inputs: readonly TextToClassify[] | Iterable<Batch>;
  readonly subjects: readonly object[];
}

/** `--text`, or the lines of files. A tab divides the two texts of a pair. */
async function textsOf(
  files: readonly string[],
  { text: texts = [] }: Values<typeof CLASSIFY>,
  directory: Directory,
): Promise<Subjects> {
  const lines = [...texts];
  for (const file of files) {
    const content = await readFile(file, "utf8").catch(() => {
      throw new FileFormatError(`No file ${file}.`, "Give a text file with one text per line.");
    });
    lines.push(...content.split(/\r?\n/).filter((line) => line.trim() !== ""));
  }
  if (lines.length === 0) throw new UsageError("There are no texts.", "Give --text TEXT, or a file with one per line.");
  const inputs = lines.map((line): TextToClassify => {
    const [text = "", pair] = line.split("\t");
    return pair === undefined ? text : [text, pair];
  });
  return { inputs, subjects: lines.map((text) => ({ text })), tokenizer: await loadTokenizer(directory) };
}

/** Files of images. */
async function imagesOf(
  files: readonly string[],
  { text, batch: size }: Values<typeof CLASSIFY>,
  { model, directory }: { readonly model: Model; readonly directory: Directory },
): Promise<Subjects> {
  if (text || files.length === 0) {
    throw new UsageError(`This ${model.family} model reads images.`, "Give PNG or JPEG files, and no --text.");
  }
  const listed = await Promise.all(
    files.map(async (path) => ({
      directory: await openDirectory(dirname(path)),
      file: basename(path),
      label: IGNORED_LABEL,
    })),
  );
  const samples = await readImages(listed, {
    spec: imageSpec(model),
    preprocessor: await readPreprocessor(directory),
  });
  const batches = new ImageBatches(samples, model, { size: Math.min(size, samples.length), shuffle: false });
  return { inputs: batches.restOfEpoch(), subjects: files.map((file) => ({ file })) };
}
