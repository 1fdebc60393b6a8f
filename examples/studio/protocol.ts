// What the page asks of its worker, and what the worker says. The worker has the model, the data and the GPU; the page draws.

/** A file that the user gave, with its path in the folder that was dropped. */
export interface GivenFile {
  readonly path: string;
  readonly file: File;
}

export type ModelSource =
  | { readonly kind: "shipped" }
  | { readonly kind: "files"; readonly files: readonly GivenFile[] }
  /** The address of a directory. The token goes into the requests' headers, and is kept nowhere. */
  | { readonly kind: "url"; readonly url: string; readonly token?: string }
  /** A model that was kept in this browser's storage. */
  | { readonly kind: "kept"; readonly name: string };

/** What a model can learn here. */
export type StudioTask = "classify" | "answer" | "text" | "images";

export interface ModelFacts {
  readonly name: string;
  readonly family: string;
  readonly layers: number;
  readonly parameters: number;
  /** Bytes of its files of weights. */
  readonly bytes: number;
  /** Longest row in tokens; undefined where there is no limit. */
  readonly maxLength: number | undefined;
  readonly tasks: readonly StudioTask[];
  /** Names of the classes of its own head. */
  readonly labels: readonly string[];
  /** What the front matter of its README.md says. */
  readonly licence: string | undefined;
  readonly hasChatTemplate: boolean;
  /** Whether its files are in this browser's storage, or beside the page, so that a run can go on after a reload. */
  readonly isKept: boolean;
}

/** How the user's files become rows of a task. */
export interface Mapping {
  readonly task: StudioTask;
  /** Whether the first row of a table has the names of its columns. */
  readonly header: boolean;
  /** Column of the text to read. */
  readonly text: number;
  /** Column of a second text; -1 for none. */
  readonly pair: number;
  /** Column of the label, or of the text to write. */
  readonly label: number;
  /** Whether each answer of a chat is a row of its own. */
  readonly eachAnswer: boolean;
  /** Share of the examples to evaluate on, where the files have no part for it. */
  readonly devShare: number;
}

export interface Problem {
  readonly file: string;
  readonly line: number | undefined;
  readonly fact: string;
  readonly remedy: string;
}

/** A row as the model reads it. */
export interface PreviewRow {
  readonly tokens: readonly { readonly text: string; readonly isLearnt: boolean }[];
  /** How many further tokens it has. */
  readonly more: number;
  /** The class, of tasks that have some. */
  readonly label: string | undefined;
}

export interface DataFacts {
  readonly mapping: Mapping;
  /** Names of the columns; empty for files that are not tables. */
  readonly columns: readonly string[];
  readonly train: number;
  readonly dev: number;
  /** Name of the file or folder that is learnt from. */
  readonly trainFile: string;
  /** That of the examples to evaluate on; undefined where they are a share of the others. */
  readonly devFile: string | undefined;
  /** Files that could be read and are not, as there is one already. */
  readonly unused: readonly string[];
  readonly labels: readonly { readonly name: string; readonly count: number }[];
  /** The first problems, and how many there are. */
  readonly problems: readonly Problem[];
  readonly problemCount: number;
  readonly preview: readonly PreviewRow[];
  /** Tokens of the longest row, and of 95 % of the rows at most. */
  readonly longest: number;
  readonly usual: number;
  /** The longest row that a run may choose, in tokens. */
  readonly mostLength: number;
  /** Lengths of rows in tokens; undefined for images. */
  readonly histogram: Picture | undefined;
}

/** A figure as SVG text. */
export interface Picture {
  readonly name: string;
  readonly title: string;
  readonly caption: string;
  readonly svg: string;
}

/** What the user can set about a run. */
export interface PlanForm {
  readonly adapter: "lora" | "dora";
  readonly rank: number;
  readonly targets: "usual" | "all-linear";
  readonly freeze: "safe" | "never";
  readonly batch: number;
  /** Longest row in tokens. */
  readonly length: number;
  readonly epochs: number;
  readonly learningRate: number;
  readonly weights: "f32" | "f16" | "bf16" | "int8" | "nf4";
  readonly activations: "f32" | "f16" | "bf16";
  readonly recompute: "none" | "mlp" | "layers";
  /** Rows that run at the same time; 0 for complete batches. */
  readonly microBatch: number;
  readonly seed: number;
}

/** A run of several devices. */
export interface Together {
  /** Address of a NATS server: ws:// or wss://. */
  readonly servers: string;
  /** Name of the run. */
  readonly run: string;
  readonly token?: string;
  /** Devices that the first step waits for. */
  readonly devices: number;
}

export interface LifetimeBytes {
  readonly weight: number;
  readonly state: number;
  readonly saved: number;
  readonly scratch: number;
}

/** What a part of the model keeps for the backward pass. */
export interface KeptPart {
  readonly name: string;
  readonly bytes: number;
  readonly values: readonly { readonly what: string; readonly bytes: number; readonly keptFor: readonly string[] }[];
}

export interface PlanFacts {
  readonly peakBytes: number;
  readonly bytes: LifetimeBytes;
  readonly peakAt: string;
  readonly trainable: number;
  readonly parts: readonly KeptPart[];
  /** The peak with all adapters below a layer frozen. */
  readonly frozen: readonly { readonly below: number; readonly peakBytes: number }[];
  readonly totalSteps: number;
  /** Floating-point operations of a step. */
  readonly flops: number;
  /** Seconds that the run takes at the measured rate; undefined before it was measured. */
  readonly seconds: number | undefined;
}

export type Metrics = Readonly<Record<string, number>>;

/** A run that is in this browser's storage. */
export interface StoredRun {
  readonly model: string;
  /** Whether the model's files must be given again. */
  readonly needsModel: boolean;
  readonly step: number;
  readonly totalSteps: number;
  readonly form: PlanForm;
  /** Whether another tab is training it. */
  readonly isBusy: boolean;
}

export interface RunFacts {
  readonly step: number;
  readonly totalSteps: number;
  readonly hasEnded: boolean;
  readonly before: Metrics;
  /** Those of the adapter that is kept. */
  readonly after: Metrics;
  /** The step of the best evaluation, whose adapter is kept; undefined without rows to evaluate on. */
  readonly bestStep: number | undefined;
}

export interface EvaluationFacts {
  readonly before: Metrics;
  readonly after: Metrics;
  readonly labels: readonly string[];
  /** Counts [label, prediction]; empty for tasks without classes. */
  readonly confusion: readonly (readonly number[])[];
}

export interface ClassScores {
  readonly name: string;
  readonly base: number;
  readonly tuned: number;
}

export type Take = "adapter" | "merged" | "gguf" | "report" | "record" | "repeat";

export interface StoredItem {
  readonly name: string;
  readonly what: string;
  readonly bytes: number;
}

export interface GpuFacts {
  readonly description: string;
  readonly isSoftware: boolean;
}

/** The worker's functions, which the page calls by name. */
export interface Api {
  gpu(): Promise<GpuFacts>;
  openModel(source: ModelSource): Promise<ModelFacts>;
  keepModel(): Promise<ModelFacts>;
  /** Reads files; undefined takes the example's. Without a mapping it is guessed. */
  openData(files: readonly GivenFile[] | undefined, mapping?: Mapping): Promise<DataFacts>;
  /** Reads the same files in another way. */
  mapData(mapping: Mapping): Promise<DataFacts>;
  firstForm(): Promise<PlanForm>;
  plan(form: PlanForm): Promise<PlanFacts>;
  /** The form that fits into so many bytes. */
  fit(form: PlanForm, budget: number): Promise<PlanForm>;
  /** Measures the operations of a second, by a few steps of the run itself. */
  measure(form: PlanForm): Promise<void>;
  /** Trains alone, or as one of several devices: such a run is not stored. */
  train(form: PlanForm, together?: Together): Promise<RunFacts>;
  pause(): Promise<void>;
  resume(): Promise<void>;
  stop(): Promise<void>;
  storedRun(): Promise<StoredRun | undefined>;
  continueRun(files?: readonly GivenFile[]): Promise<RunFacts>;
  /** What the page shows of a run that goes on: its model, data and form. */
  opened(): Promise<{ readonly model: ModelFacts; readonly data: DataFacts; readonly form: PlanForm }>;
  evaluation(): Promise<EvaluationFacts>;
  classify(text: string, pair: string | undefined): Promise<readonly ClassScores[]>;
  classifyImage(file: File): Promise<readonly ClassScores[]>;
  /**
   * Answers a message, first without the adapter, then with it: pieces come as events. Each of the two goes on from its own answers.
   * @returns what is to be said about answers that did not end by themselves.
   */
  answer(message: string, maxNewTokens: number): Promise<string>;
  stopAnswer(): Promise<void>;
  /** Begins a new conversation. */
  forgetAnswers(): Promise<void>;
  take(what: Take): Promise<File>;
  stored(): Promise<readonly StoredItem[]>;
  remove(name: string): Promise<readonly StoredItem[]>;
}

/** What the worker says by itself. */
export type StudioEvent =
  | { readonly type: "progress"; readonly text: string }
  /** Something that does not stop the work, and what to do about it. */
  | { readonly type: "notice"; readonly text: string; readonly isStorageFull?: boolean }
  | {
      readonly type: "step";
      readonly step: number;
      readonly totalSteps: number;
      readonly loss: number;
      readonly examplesPerSecond: number;
      readonly bytes: LifetimeBytes;
      /** Seconds that are left. */
      readonly left: number;
      readonly horizon: number | undefined;
    }
  | { readonly type: "picture"; readonly picture: Picture }
  | { readonly type: "evaluated"; readonly step: number; readonly metrics: Metrics }
  | { readonly type: "piece"; readonly of: "base" | "tuned"; readonly text: string };

/** The name of the error of a storage that is full, which the page has a remedy for. */
export const STORAGE_FULL = "StorageFullError";

/** An error on its way to the page: two lines, and its class by name. "Error" is one that nobody foresaw. */
export interface Fault {
  readonly name: string;
  readonly fact: string;
  readonly remedy: string;
}

/** An error that nobody foresaw, for the user. */
export const unforeseen = (error: unknown): Fault => ({
  name: "Error",
  fact: `Something went wrong: ${error instanceof Error ? error.message : String(error)}`,
  remedy: "Try it again; if it happens again, please report it.",
});

export interface Call {
  readonly id: number;
  readonly name: keyof Api;
  readonly args: readonly unknown[];
}

export type Message =
  | { readonly id: number; readonly result: unknown }
  | { readonly id: number; readonly fault: Fault }
  | { readonly event: StudioEvent };
