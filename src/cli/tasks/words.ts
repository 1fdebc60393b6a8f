import { DataError } from "../../base/errors";
import { entityScores } from "../../data/metrics-entities";
import { isTag, readTagged, readTagNames, taggedSamples, tagNames } from "../../data/tagged-words";
import type { TaggedFile, TaggedSamples } from "../../data/tagged-words";
import { labelNamesOf } from "../../model/config";
import type { Evaluation } from "../../train/evaluate";
import { publishedSplit } from "./published-split";
import { devSet, taskFiles, textData } from "./task-data";
import type { ScoredSet, Scorer, TaskData, TaskFileNames, TaskOptions } from "./task-data";

/** A list of all tags beside the data, a name in each line. Default: those of the training set. */
const TAG_LIST = "labels.txt";

const filesOf = (...parts: readonly string[]): string[] =>
  parts.flatMap((part) => [`${part}.txt`, `${part}.conll`, `${part}.jsonl`, `${part}.json`]);

/** CoNLL-2003's files are eng.train, eng.testa and eng.testb. */
const NAMES: TaskFileNames = {
  train: [...filesOf("train"), "eng.train"],
  dev: [...filesOf("dev", "valid", "validation"), "eng.testa"],
  test: [...filesOf("test"), "eng.testb"],
};

/**
 * The tags of the data at a path: labels.txt beside them, or the names in the training set, sorted; undefined where that has
 * numbers.
 */
export async function namesOfTags({
  path,
  tagging,
}: Pick<TaskOptions, "path" | "tagging">): Promise<readonly string[] | undefined> {
  const { folder, train = "train.txt" } = await taskFiles({ path }, NAMES);
  if ((await folder.size(TAG_LIST)) !== undefined) return readTagNames(folder, TAG_LIST);
  return tagNames((await readTagged(folder, train, tagging)).sentences);
}

/**
 * Reads sentences with a tag for each word from train, dev (or valid, validation) and test, each .txt, .conll, .jsonl or .json, or
 * eng.train, eng.testa and eng.testb. Entities of the dev set are scored as seqeval does.
 */
export async function readNerTask(options: TaskOptions): Promise<TaskData> {
  const { model, maxLength, split, tagging = {}, choose, ...load } = options;
  const { folder, train: trainFile, dev: devFile, part } = await taskFiles(options, NAMES);
  const labelNames = load.labelNames ?? labelNamesOf(model.config);
  if (!labelNames?.every(isTag)) {
    throw new DataError(
      `the tags in ${folder.name} are numbers, and nothing says which`,
      `add ${TAG_LIST} with a name in each line, or use a model whose config.json has names in id2label`,
    );
  }
  const tokenizer = await load.tokenizer();
  const read = async (file: string | undefined): Promise<TaggedFile> =>
    file === undefined ? { where: "", sentences: [] } : readTagged(folder, file, tagging);
  const samplesOf = (where: string, sentences: TaggedFile["sentences"]): TaggedSamples =>
    taggedSamples({ where, sentences }, tokenizer, {
      labelNames,
      maxLength,
      ...(tagging.tooLong && { tooLong: tagging.tooLong }),
    });
  const [allTrain, allDev] = [await read(trainFile), await read(devFile)];
  const chosen = [choose("train", allTrain.sentences), choose(part, allDev.sentences)] as const;
  const parts = publishedSplit(split, ...chosen);
  // A split takes the validation set from one of both files, and the test set is the dev set's rest.
  const validationFrom = split === undefined || split === "half-dev" ? allDev : allTrain;
  const train = samplesOf(allTrain.where, parts.train);
  const validation = samplesOf(validationFrom.where, parts.validation);
  const test = samplesOf(allDev.where, parts.test);
  const scored = ({ samples, counts }: TaggedSamples): ScoredSet => ({
    batches: devSet(options, samples),
    scorer: () => entityScorer(counts, labelNames),
  });
  const dev = validation.samples.length > 0 ? scored(validation) : undefined;
  return {
    ...textData({ ...options, split: undefined }, train.samples, []),
    dev: dev?.batches,
    ...(dev?.scorer && { scorer: dev.scorer }),
    ...(test.samples.length > 0 && { moreDevSets: { test: scored(test) } }),
    labelNames,
    truncated: train.truncated + validation.truncated + test.truncated,
  };
}

/** Scores the predictions of sentences' words, of which each has as many as `counts` says. F1 is the first metric. */
function entityScorer(counts: readonly number[], labelNames: readonly string[]): Scorer {
  const sentencesOf = (labels: readonly number[]): string[][] => {
    let end = 0;
    return counts.map((count) => labels.slice(end, (end += count)).map((label) => labelNames[label]!));
  };
  return {
    metrics({ predictions, labels }: Evaluation) {
      const { types, f1, precision, recall, accuracy } = entityScores(sentencesOf(predictions), sentencesOf(labels));
      const ofTypes = [...types].flatMap(([type, score]) => [
        [`f1_${type}`, score.f1] as const,
        [`precision_${type}`, score.precision] as const,
        [`recall_${type}`, score.recall] as const,
      ]);
      return { f1, precision, recall, accuracy, ...Object.fromEntries(ofTypes) };
    },
  };
}
