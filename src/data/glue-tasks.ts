/** The columns of a file of a GLUE task that hold texts, counted from 0, and their names in the header. */
export interface Layout {
  /** Whether the first line is a header. */
  readonly header: boolean;
  readonly texts: readonly { readonly column: number; readonly name: string }[];
}

/** A task of GLUE. */
export interface GlueTask {
  /** Layout of the training and development files. */
  readonly labelled: Layout;
  readonly test: Layout;
  readonly label: { readonly column: number | "last"; readonly name: string };
  /** The labels in files, in the order of their ids. Undefined for a regression. */
  readonly labels: readonly string[] | undefined;
  /** Names of the classes, in the same order. */
  readonly labelNames: readonly string[] | undefined;
  /** Range of a regression's labels. */
  readonly range?: readonly [number, number];
  /** Whether rows that are too short or have an empty text are skipped, as is the convention for QQP. Default false. */
  readonly skipsBroken?: boolean;
  /** Metrics. The first one selects the best checkpoint. */
  readonly metrics: readonly ("accuracy" | "f1" | "matthews" | "pearson" | "spearman")[];
}

const SENTENCES = ["sentence1", "sentence2"] as const;
const ENTAILMENT = ["entailment", "not_entailment"] as const;

function layout(columns: readonly number[], names: readonly string[], header = true): Layout {
  return { header, texts: columns.map((column, index) => ({ column, name: names[index]! })) };
}

/** The tasks of GLUE, with the label ids of Hugging Face's datasets (MNLI: 0 entailment, 1 neutral, 2 contradiction). */
export const GLUE_TASKS = {
  cola: {
    labelled: layout([3], ["sentence"], false),
    test: layout([1], ["sentence"]),
    label: { column: 1, name: "label" },
    labels: ["0", "1"],
    labelNames: ["unacceptable", "acceptable"],
    metrics: ["matthews", "accuracy"],
  },
  sst2: {
    labelled: layout([0], ["sentence"]),
    test: layout([1], ["sentence"]),
    label: { column: 1, name: "label" },
    labels: ["0", "1"],
    labelNames: ["negative", "positive"],
    metrics: ["accuracy"],
  },
  mrpc: {
    labelled: layout([3, 4], ["#1 String", "#2 String"]),
    test: layout([3, 4], ["#1 String", "#2 String"]),
    label: { column: 0, name: "Quality" },
    labels: ["0", "1"],
    labelNames: ["not_equivalent", "equivalent"],
    metrics: ["accuracy", "f1"],
  },
  qqp: {
    labelled: layout([3, 4], ["question1", "question2"]),
    test: layout([1, 2], ["question1", "question2"]),
    label: { column: 5, name: "is_duplicate" },
    labels: ["0", "1"],
    labelNames: ["not_duplicate", "duplicate"],
    skipsBroken: true,
    metrics: ["accuracy", "f1"],
  },
  stsb: {
    labelled: layout([7, 8], SENTENCES),
    test: layout([7, 8], SENTENCES),
    label: { column: "last", name: "score" },
    labels: undefined,
    labelNames: undefined,
    range: [0, 5],
    metrics: ["pearson", "spearman"],
  },
  mnli: {
    labelled: layout([8, 9], SENTENCES),
    test: layout([8, 9], SENTENCES),
    label: { column: "last", name: "gold_label" },
    labels: ["entailment", "neutral", "contradiction"],
    labelNames: ["entailment", "neutral", "contradiction"],
    metrics: ["accuracy"],
  },
  qnli: {
    labelled: layout([1, 2], ["question", "sentence"]),
    test: layout([1, 2], ["question", "sentence"]),
    label: { column: "last", name: "label" },
    labels: ENTAILMENT,
    labelNames: ENTAILMENT,
    metrics: ["accuracy"],
  },
  rte: {
    labelled: layout([1, 2], SENTENCES),
    test: layout([1, 2], SENTENCES),
    label: { column: "last", name: "label" },
    labels: ENTAILMENT,
    labelNames: ENTAILMENT,
    metrics: ["accuracy"],
  },
} as const satisfies Readonly<Record<string, GlueTask>>;

export type GlueTaskName = keyof typeof GLUE_TASKS;

export function isGlueTask(name: string): name is GlueTaskName {
  return Object.hasOwn(GLUE_TASKS, name);
}
