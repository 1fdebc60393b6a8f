import { joined } from "../base/joined";
import { ConfigError, FileFormatError } from "../base/errors";
import { LIFETIMES, sumBytes } from "../gpu/ledger";
import type { StepReport } from "../train/loop/reports";
import { bytesField, doubleField, floatField, framed, intField, messageField, stringField } from "./event-records";

/** Appends bytes to an event file. They are whole records. */
export type AppendRecords = (records: Uint8Array) => void | Promise<void>;

/** The value of a hyperparameter. */
export type Hparam = string | number | boolean;

export interface SummaryWriterOptions {
  /**
   * First step that this writer writes again, of a run that goes on from a checkpoint: TensorBoard then leaves out what earlier
   * files of the directory have from this step on, but for hyperparameters, of which it shows the first. Default: it shows all of them.
   */
  readonly purgeStep?: number;
  /** The time, in seconds since 1970. Default: the clock. */
  readonly now?: () => number;
}

/** Numbers of the statuses of a session, in TensorBoard's plugin for hyperparameters. */
const ENDED = { success: 1, failure: 2 } as const;
/** Number of strings among the types of a tensor's elements. */
const STRINGS = 7;
/** Number of a session's start among the statuses of a session log. */
const STARTS = 1;
/** Numbers of the types of hyperparameters. */
const HPARAM_TYPES = { string: 1, boolean: 2, number: 3 } as const;

/**
 * Writes TensorBoard's event files (TFRecord records of the messages in tensorflow/core/util/event.proto and
 * framework/summary.proto): scalars, texts, images and hyperparameters. Every method appends whole records, in the order of the
 * calls, so that a run that is killed leaves a file that can be read. In Node, `openSummaryWriter` makes one for a directory.
 */
export class SummaryWriter {
  readonly #now: () => number;
  /** What the file begins with, until it is written. */
  #head: Uint8Array[];
  #last: Promise<void> = Promise.resolve();
  #hasHparams = false;

  constructor(
    private readonly append: AppendRecords,
    { purgeStep, now = () => Date.now() / 1000 }: SummaryWriterOptions = {},
  ) {
    this.#now = now;
    this.#head = [this.#event(0, stringField(3, "brain.Event:2"))];
    if (purgeStep === undefined) return;
    // TensorBoard passes over the first start that it reads in a directory, which earlier files need not have.
    const start = this.#event(purgeStep, messageField(7, intField(1, STARTS)));
    this.#head.push(start, start);
  }

  /** Adds scalars by tag, such as `train/loss`. TensorBoard groups them by what comes before the slash. */
  async addScalars(step: number, scalars: Readonly<Record<string, number>>): Promise<void> {
    const values = Object.entries(scalars).map(([tag, value]) => summaryValue(tag, floatField(2, value)));
    if (values.length > 0) await this.#write(step, values);
  }

  /** Adds what a trainer reports of a step: loss, rate, gradient norm, memory by lifetime, speed, what is frozen, importances. */
  async addStep(report: StepReport): Promise<void> {
    await this.addScalars(report.step, stepScalars(report));
  }

  /** Adds a text, which TensorBoard shows as Markdown. */
  async addText(step: number, tag: string, text: string): Promise<void> {
    const tensor = messageField(
      8,
      intField(1, STRINGS),
      messageField(2, messageField(2, intField(1, 1))),
      stringField(8, text),
    );
    await this.#write(step, [summaryValue(`${tag}/text_summary`, tensor, pluginField("text"))]);
  }

  /** Adds an image. @throws FileFormatError where the bytes are no PNG file. */
  async addImage(step: number, tag: string, png: Uint8Array): Promise<void> {
    const { width, height, channels } = pngSize(png, tag);
    const image = messageField(4, intField(1, height), intField(2, width), intField(3, channels), bytesField(4, png));
    await this.#write(step, [summaryValue(tag, image)]);
  }

  /**
   * Adds the hyperparameters of the run. It is to be called before the first scalars: TensorBoard looks for them at the beginning.
   * @param metrics tags of the scalars to compare runs by. Default: TensorBoard takes all.
   */
  async addHparams(hparams: Readonly<Record<string, Hparam>>, metrics: readonly string[] = []): Promise<void> {
    const entries = Object.entries(hparams);
    const infos = entries.map(([name, value]) =>
      messageField(4, stringField(1, name), intField(4, HPARAM_TYPES[kindOf(value)])),
    );
    const tags = metrics.map((tag) => messageField(5, messageField(1, stringField(2, tag))));
    const values = entries.map(([name, value]) =>
      messageField(1, stringField(1, name), messageField(2, hparamField(value))),
    );
    this.#hasHparams = true;
    await this.#write(0, [
      // Without metrics, TensorBoard makes the description of the experiment itself, with all scalars.
      ...(metrics.length > 0 ? [hparamsValue("experiment", messageField(2, ...infos, ...tags))] : []),
      hparamsValue("session_start_info", messageField(3, ...values, doubleField(5, this.#now()))),
    ]);
  }

  /** Marks the end of a run that has hyperparameters, and waits until everything is written. */
  async end(status: "success" | "failure" = "success"): Promise<void> {
    const info = messageField(4, intField(1, ENDED[status]), doubleField(2, this.#now()));
    await (this.#hasHparams ? this.#write(0, [hparamsValue("session_end_info", info)]) : this.#last);
  }

  async #write(step: number, values: readonly Uint8Array[]): Promise<void> {
    const records = [...this.#head, this.#event(step, messageField(5, ...values))];
    this.#head = [];
    // One after the other, in the order of the calls.
    this.#last = this.#last.then(() => this.append(joined(records)));
    await this.#last;
  }

  /** @throws ConfigError for a step that is not a count. */
  #event(step: number, what: Uint8Array): Uint8Array {
    if (!Number.isSafeInteger(step) || step < 0) {
      throw new ConfigError(`An event has the step ${step}.`, "Count steps by whole numbers from 0.");
    }
    // Fields that are 0 are left out.
    return framed(joined([doubleField(1, this.#now()), ...(step > 0 ? [intField(2, step)] : []), what]));
  }
}

/** The numbers of a step by tag. */
export function stepScalars(report: StepReport): Record<string, number> {
  const { horizon, liveParameters, scores, bytes } = report;
  const importances = scores?.kind === "importance" ? Object.entries(scores.values) : [];
  return {
    "train/loss": report.loss,
    "train/learning_rate": report.learningRate,
    "train/gradient_norm": report.gradientNorm,
    "train/epoch": report.epoch,
    "freezing/frozen_tensors": report.frozenTensors,
    ...(horizon !== undefined && { "freezing/horizon": horizon }),
    ...(liveParameters !== undefined && { "freezing/live_parameters": liveParameters }),
    ...Object.fromEntries(LIFETIMES.map((lifetime) => [`memory/${lifetime}_bytes`, bytes[lifetime]])),
    "memory/total_bytes": sumBytes(bytes),
    "speed/seconds": report.seconds,
    "speed/examples_per_second": report.examplesPerSecond,
    "speed/flops": report.flops,
    ...Object.fromEntries(importances.map(([layer, value]) => [`importance/${layer}`, value])),
  };
}

/** A value of a summary. */
const summaryValue = (tag: string, ...fields: readonly Uint8Array[]): Uint8Array =>
  messageField(1, stringField(1, tag), ...fields);

/** The metadata that give a value to a plugin of TensorBoard. */
const pluginField = (name: string, content?: Uint8Array): Uint8Array =>
  messageField(9, messageField(1, stringField(1, name), ...(content ? [bytesField(2, content)] : [])));

const hparamsValue = (tag: string, content: Uint8Array): Uint8Array =>
  summaryValue(`_hparams_/${tag}`, pluginField("hparams", content));

const kindOf = (value: Hparam): keyof typeof HPARAM_TYPES =>
  typeof value === "number" ? "number" : typeof value === "boolean" ? "boolean" : "string";

function hparamField(value: Hparam): Uint8Array {
  if (typeof value === "number") return doubleField(2, value);
  return typeof value === "boolean" ? intField(4, Number(value)) : stringField(3, value);
}

/** Channels by PNG's types of colour: grey, RGB, a palette of RGB, grey with alpha, RGBA. */
const CHANNELS: Readonly<Record<number, number>> = { 0: 1, 2: 3, 3: 3, 4: 2, 6: 4 };
const PNG_SIGNATURE = [0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a];
/** Bytes of the signature and the header up to its type of colour. */
const PNG_HEADER = 26;

function pngSize(
  png: Uint8Array,
  tag: string,
): { readonly width: number; readonly height: number; readonly channels: number } {
  const isPng = png.length >= PNG_HEADER && PNG_SIGNATURE.every((byte, i) => png[i] === byte);
  const channels = isPng ? CHANNELS[png[PNG_HEADER - 1]!] : undefined;
  if (channels === undefined) {
    throw new FileFormatError(`The image ${tag} is no PNG file.`, "Encode it as PNG first.");
  }
  const view = new DataView(png.buffer, png.byteOffset);
  return { width: view.getUint32(16), height: view.getUint32(20), channels };
}
