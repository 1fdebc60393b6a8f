import type { Adapter } from "../../adapter/adapter";
import type { Batch } from "../../data/batch";
import { readPreprocessor } from "../../data/preprocessor";
import { loadTokenizer } from "../../data/tokenizer";
import type { Engine } from "../../engine";
import type { Directory } from "../../io/directory";
import type { LoadedModel } from "../../io/load-model";
import { createEngine, loadModel, openDirectory } from "../../node/index";
import type { Trainer } from "../../train/trainer";
import type { TrainerOptions } from "../../train/options";
import { adapterOption, countOption, textOption } from "../options";
import type { Given } from "../options";
import type { TaskData } from "../task-data";
import { trainerSettings } from "../train";
import { judge, readTask, taskHead } from "../train-data";
import { Screen } from "../view/screen";
import { stagesOn } from "../view/stage";
import type { Stages } from "../view/stage";

/** What every analysis of the command line begins with: a model, a task's data, and how to train. */
export class Workplace {
  private constructor(
    readonly engine: Engine,
    readonly model: LoadedModel,
    readonly task: string,
    readonly data: TaskData,
    /** Rows of a batch. */
    readonly rows: number,
    readonly training: Omit<TrainerOptions, "model" | "adapter" | "data">,
    readonly screen: Screen,
    private readonly given: Given,
  ) {}

  /** Shows how far a piece of work is. */
  get watched(): Stages {
    return stagesOn(this.screen);
  }

  /** Reads everything; throws as `train` does for what is missing or wrong. */
  static async open(given: Given): Promise<Workplace> {
    const task = textOption(given, "task", "--task");
    const [modelPath, path] = [textOption(given, "model", "--model"), textOption(given, "data", "--data")];
    const settings = trainerSettings({ freeze: "never", ...given });
    const rows = countOption(given, "batch", "--batch", 8);
    adapterOption(given);
    const head = await taskHead(task, path);
    const screen = new Screen(given["quiet"] === true);
    const watched = stagesOn(screen);
    const engine = await createEngine();
    try {
      const model = await watched("loading weights", (onProgress) =>
        loadModel(engine, modelPath, { ...head, onProgress }),
      );
      const maxLength = Math.min(model.model.maxLength, countOption(given, "maxLength", "--max-length", 128));
      const tokenizer = async () => loadTokenizer(await openDirectory(modelPath));
      const preprocessor = async () => readPreprocessor(await openDirectory(modelPath));
      const data = await readTask(task, { path, model: model.model, maxLength, tokenizer, preprocessor });
      const steps = given["steps"] === undefined ? {} : { steps: countOption(given, "steps", "--steps") };
      return new Workplace(engine, model, task, data, rows, { ...settings, ...steps }, screen, given);
    } catch (error) {
      engine.dispose();
      throw error;
    }
  }

  /** The adapter that the command line asks for; with `layers`, on these alone. */
  adapter(layers?: readonly number[]): Adapter {
    return layers ? adapterOption({ ...this.given, layers: layers.join(",") }) : adapterOption(this.given);
  }

  get seed(): number {
    return this.training.seed ?? 0;
  }

  trainingData() {
    return this.data.train(this.rows, this.seed);
  }

  /** The first batches of the training data, always the same. */
  batches(count: number): Batch[] {
    const source = this.trainingData();
    return Array.from({ length: count }, () => source.next());
  }

  judge(trainer: Trainer): Promise<Record<string, number>> {
    return judge(trainer, this.task, this.data, this.rows);
  }

  [Symbol.dispose](): void {
    this.screen.end();
    this.model.dispose();
    this.engine.dispose();
  }
}

/** Where results go. */
export const openOut = (given: Given): Promise<Directory> =>
  openDirectory(textOption(given, "out", "--out"), { create: true });
