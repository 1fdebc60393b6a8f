import type { Adapter } from "../../adapter/adapter";
import type { LayerChoice } from "../../adapter/targets";
import type { Batch } from "../../data/batch";
import type { Engine } from "../../engine";
import type { PolicyChoice } from "../../freeze/make";
import type { Directory } from "../../io/directory";
import type { LoadedModel } from "../../io/load-model";
import { createEngine, loadModel, openDirectory } from "../../node/index";
import { pngRenderer } from "../../report/png";
import type { BatchSource, TrainerOptions } from "../../train/options";
import type { Trainer } from "../../train/trainer";
import { evaluateTask } from "../evaluation";
import type { Metrics } from "../evaluation";
import { adapterFrom, dpoFrom, taggingFrom, trainerSettings } from "../flags";
import type { ANALYZE } from "../flags";
import type { Values } from "../options";
import { fillingOf, firstBatches, objectiveOf, preprocessing, probeOf } from "../tasks/task-data";
import type { TaskData } from "../tasks/task-data";
import { readTask, taskHead } from "../tasks/tasks";
import { progressOn } from "../view/progress";
import type { ProgressView } from "../view/progress";
import { Screen } from "../view/screen";

export type AnalyzeOptions = Values<typeof ANALYZE>;

const NEVER: PolicyChoice = { policy: "never" };

/** What every analysis needs: a model, the data of a task, the settings of training, and an output directory. */
export class AnalysisSession {
  readonly progress: ProgressView;

  private constructor(
    readonly options: AnalyzeOptions,
    readonly engine: Engine,
    readonly model: LoadedModel,
    private readonly data: TaskData,
    readonly training: Omit<TrainerOptions, "model" | "adapter" | "data">,
    readonly out: Directory,
    readonly screen: Screen,
  ) {
    this.progress = progressOn(screen);
  }

  /** Loads the model and reads the data. @throws what `safetape train` throws for missing or wrong options and files. */
  static async open(options: AnalyzeOptions): Promise<AnalysisSession> {
    const { task, data: path, steps } = options;
    const settings = trainerSettings(options.freeze ?? NEVER, options);
    // Wrong options and missing packages are reported before anything is loaded.
    adapterFrom(options);
    if (options.png) await pngRenderer();
    const [tagging, preference] = [taggingFrom(options), dpoFrom(options)];
    const head = await taskHead(task, path, tagging);
    const screen = new Screen(options.quiet);
    const engine = await createEngine();
    try {
      const model = await progressOn(screen)("loading weights", (onProgress) =>
        loadModel(engine, options.model, { ...head, onProgress }),
      );
      adapterFrom(options, { model: model.model });
      const maxLength = Math.min(model.model.maxLength, options.maxLength);
      const reading = {
        path,
        model: model.model,
        maxLength,
        tagging,
        dpo: preference,
        eachAnswer: options.eachAnswer,
        ...fillingOf(options),
        ...preprocessing(options.model, options.chatTemplate),
      };
      const data = await readTask(task, reading);
      await data.prepare?.(model, { size: options.batch });
      const objective = objectiveOf([data], options.loss);
      const training = {
        ...settings,
        ...(objective && { loss: objective }),
        ...(steps !== undefined && { steps }),
        ...probeOf(data, options),
      };
      const out = await openDirectory(options.out, { create: true });
      return new AnalysisSession(options, engine, model, data, training, out, screen);
    } catch (error) {
      engine.dispose();
      throw error;
    }
  }

  /** The adapter that the options describe. @param layers its layers, instead of those of the options. */
  adapter(layers?: LayerChoice): Adapter {
    return adapterFrom({ ...this.options, layers: layers ?? this.options.layers });
  }

  trainingData(): BatchSource {
    return this.data.train(this.options.batch, this.options.seed);
  }

  /** The first batches of the training data: `--batches` of them, always the same. */
  firstBatches(): Batch[] {
    return firstBatches(this.trainingData(), this.options.batches);
  }

  evaluate(trainer: Trainer): Promise<Metrics> {
    return evaluateTask(trainer, this.options.task, this.data, this.options.batch);
  }

  [Symbol.dispose](): void {
    this.screen.end();
    this.model.dispose();
    this.engine.dispose();
  }
}
