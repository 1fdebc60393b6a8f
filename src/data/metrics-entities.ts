import { DataError } from "../base/errors";

/** A run of words that names something. */
export interface Entity {
  readonly type: string;
  /** Its words [start, end) in the sentence. */
  readonly start: number;
  readonly end: number;
}

/**
 * The entities of a sentence's tags, by the lenient rules of conlleval and of seqeval's default mode. After B or I, a tag I or E
 * of the same type continues an entity; any other tag but O begins one, whatever its place says.
 */
export function entitiesOf(tags: readonly string[]): Entity[] {
  const entities: { type: string; start: number; end: number }[] = [];
  let [previousPlace, previousType] = ["O", ""];
  for (const [i, tag] of tags.entries()) {
    const place = tag.slice(0, 1);
    // As in seqeval, a tag without a type has the type _.
    const type = tag.slice(2) || "_";
    const continues = /[BI]/.test(previousPlace) && /[IE]/.test(place) && type === previousType;
    if (continues) entities.at(-1)!.end = i + 1;
    else if (place !== "O") entities.push({ type, start: i, end: i + 1 });
    [previousPlace, previousType] = [place, type];
  }
  return entities;
}

/** How many of the entities that were found are right, how many of the right ones were found, and the harmonic mean of both. */
export interface EntityScore {
  readonly precision: number;
  readonly recall: number;
  readonly f1: number;
}

export interface EntityScores extends EntityScore {
  /** Share of the words with the right tag. */
  readonly accuracy: number;
  /** Scores of each type that the tags or the predictions have, with the number of its right entities, sorted by type. */
  readonly types: ReadonlyMap<string, EntityScore & { readonly count: number }>;
}

/**
 * seqeval's scores of sentences' tags in its default mode: an entity is found if its type and both ends are right. Where a
 * score would divide by zero it is 0.
 * @throws DataError for no words, and for sentences of different lengths.
 */
export function entityScores(
  predictions: readonly (readonly string[])[],
  labels: readonly (readonly string[])[],
): EntityScores {
  const lengths = (tags: readonly (readonly string[])[]): string => tags.map(({ length }) => length).join();
  const all = labels.flat();
  if (all.length === 0 || lengths(predictions) !== lengths(labels)) {
    throw new DataError("predictions and labels are not of the same words, or of none", "give a tag for each word");
  }
  const counts = new Map<string, Counts>();
  const countsOf = (type: string): Counts => {
    const known = counts.get(type) ?? { right: 0, predicted: 0, labelled: 0 };
    counts.set(type, known);
    return known;
  };
  for (const [i, tags] of labels.entries()) {
    const expected = entitiesOf(tags);
    const keys = new Set(expected.map(keyOf));
    for (const { type } of expected) countsOf(type).labelled++;
    for (const entity of entitiesOf(predictions[i]!)) {
      const own = countsOf(entity.type);
      own.predicted++;
      if (keys.has(keyOf(entity))) own.right++;
    }
  }
  const total: Counts = { right: 0, predicted: 0, labelled: 0 };
  for (const own of counts.values())
    for (const key of ["right", "predicted", "labelled"] as const) total[key] += own[key];
  const predicted = predictions.flat();
  const types = [...counts].sort(([a], [b]) => (a < b ? -1 : 1));
  return {
    ...scoreOf(total),
    accuracy: all.filter((tag, i) => tag === predicted[i]).length / all.length,
    types: new Map(types.map(([type, own]) => [type, { ...scoreOf(own), count: own.labelled }])),
  };
}

/** Numbers of entities that are in the predictions and the labels, in the predictions, and in the labels. */
type Counts = Record<"right" | "predicted" | "labelled", number>;

const keyOf = ({ type, start, end }: Entity): string => `${start} ${end} ${type}`;

function scoreOf({ right, predicted, labelled }: Counts): EntityScore {
  const [precision, recall] = [right / Math.max(1, predicted), right / Math.max(1, labelled)];
  return { precision, recall, f1: right === 0 ? 0 : (2 * precision * recall) / (precision + recall) };
}
