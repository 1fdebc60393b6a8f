import { appendFileSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { openSummaryWriter, SummaryWriter } from "safetape/analysis";
import type { SummaryWriterOptions } from "safetape/analysis";
import { ConfigError, FileFormatError } from "safetape/engine";
import { encode } from "fast-png";
import { crc32c, maskedCrc } from "../../src/report/event-records";
import { failure } from "../support/failure";
import { useFolder } from "../support/folder";
import { bytesOf, eventFiles, eventsIn, eventsOf, fieldsOf, messages, one, recordsOf } from "../support/event-file";
import { scalarsOf, tagOf, texts } from "../support/event-file";

const path = useFolder();

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString("hex");
const ascii = (text: string): string => Buffer.from(text).toString("hex");

/** A writer into memory whose clock counts seconds from 1. */
function memoryWriter(options: SummaryWriterOptions = {}) {
  const pieces: Uint8Array[] = [];
  let seconds = 0;
  const writer = new SummaryWriter((records) => void pieces.push(records), { now: () => ++seconds, ...options });
  return { writer, pieces, bytes: () => Uint8Array.from(pieces.flatMap((piece) => [...piece])) };
}

describe("event files", () => {
  it("have the checksums of TFRecord files", () => {
    const digits = new TextEncoder().encode("123456789");
    // RFC 3720 and the catalogue of CRCs give the first.
    expect([crc32c(digits), maskedCrc(digits)]).toEqual([0xe3069283, 0xc78ab0e5]);
  });

  it("begin with their version, and have scalars to the byte as TensorFlow writes them", async () => {
    const { writer, bytes } = memoryWriter();
    await writer.addScalars(3, { loss: 0.5 });
    const version = `09000000000000f03f1a0d${ascii("brain.Event:2")}`;
    const scalar = `09000000000000004010032a0d0a0b0a04${ascii("loss")}150000003f`;
    expect(hex(bytes())).toBe(
      `1800000000000000a37f4b22${version}86bf577a` + `1a00000000000000129bd82d${scalar}bac36b94`,
    );
  });

  it("keep steps and values of every size, 0 and what is not finite", async () => {
    const { writer, bytes } = memoryWriter();
    const steps = [0, 1, 127, 128, 2 ** 32 + 5, Number.MAX_SAFE_INTEGER];
    for (const step of steps)
      await writer.addScalars(step, { zero: 0, nan: NaN, least: -Infinity, a: Math.fround(0.1) });
    const scalars = scalarsOf(eventsOf(bytes()));
    expect([...scalars.keys()]).toEqual(["zero", "nan", "least", "a"]);
    const values = { zero: 0, nan: NaN, least: -Infinity, a: Math.fround(0.1) };
    for (const [tag, value] of Object.entries(values)) {
      expect([...scalars.get(tag)!], tag).toEqual(steps.map((step) => [step, value]));
    }
  });

  it("have texts as strings of the text plugin", async () => {
    const { writer, bytes } = memoryWriter();
    await writer.addText(0, "run", "**λ** is 0.5");
    const [value] = eventsOf(bytes())[1]!.values;
    expect(tagOf(value!)).toBe("run/text_summary");
    const [plugin] = messages(value!, 9).flatMap((metadata) => messages(metadata, 1));
    expect(texts(plugin!, 1)).toEqual(["text"]);
    const [tensor] = messages(value!, 8);
    expect([one(tensor!, 1), texts(tensor!, 8)]).toEqual([7, ["**λ** is 0.5"]]);
    expect(messages(tensor!, 2).flatMap((shape) => messages(shape, 2).map((size) => one(size, 1)))).toEqual([1]);
  });

  it("have images with their size and channels", async () => {
    for (const [channels, width, height] of [
      [1, 3, 2],
      [3, 300, 1],
      [4, 1, 5],
    ] as const) {
      const png = encode({ width, height, channels, data: new Uint8Array(width * height * channels) });
      const { writer, bytes } = memoryWriter();
      await writer.addImage(1, "figure", png);
      const [image] = messages(eventsOf(bytes())[1]!.values[0]!, 4);
      expect([1, 2, 3].map((number) => one(image!, number))).toEqual([height, width, channels]);
      expect(hex(bytesOf(image!, 4)[0]!)).toBe(hex(png));
    }
    const { writer, pieces } = memoryWriter();
    await failure(() => writer.addImage(1, "figure", Uint8Array.of(0xff, 0xd8)), FileFormatError);
    expect(pieces).toEqual([]);
  });

  it("have hyperparameters as TensorBoard's plugin reads them: experiment, start and end of the session", async () => {
    const { writer, bytes } = memoryWriter();
    const hparams = { rank: 8, zero: 0, adapter: "lora", cached: false, fit: true };
    await writer.addHparams(hparams, ["train/loss", "final/accuracy"]);
    await writer.end();
    const values = eventsOf(bytes()).flatMap((event) => event.values);
    const [experiment, start, end] = values.map((value) => {
      const [plugin] = messages(value, 9).flatMap((metadata) => messages(metadata, 1));
      expect(texts(plugin!, 1)).toEqual(["hparams"]);
      return fieldsOf(bytesOf(plugin!, 2)[0]!);
    });
    expect(values.map(tagOf)).toEqual(
      ["experiment", "session_start_info", "session_end_info"].map((name) => `_hparams_/${name}`),
    );
    const [described] = messages(experiment!, 2);
    expect(messages(described!, 4).map((info) => [texts(info, 1)[0], one(info, 4)])).toEqual([
      ["rank", 3],
      ["zero", 3],
      ["adapter", 1],
      ["cached", 2],
      ["fit", 2],
    ]);
    const tags = messages(described!, 5).flatMap((metric) => messages(metric, 1).flatMap((name) => texts(name, 2)));
    expect(tags).toEqual(["train/loss", "final/accuracy"]);
    const [started] = messages(start!, 3);
    const entries = messages(started!, 1).map((entry) => {
      const [value] = messages(entry, 2);
      return [texts(entry, 1)[0], one(value!, 2) ?? texts(value!, 3)[0] ?? one(value!, 4) === 1];
    });
    expect(Object.fromEntries(entries)).toEqual(hparams);
    expect(one(started!, 5)).toBe(2);
    const [ended] = messages(end!, 4);
    expect([one(ended!, 1), one(ended!, 2)]).toEqual([1, 4]);
  });

  it("have no end of a session without hyperparameters, and no experiment without metrics", async () => {
    const plain = memoryWriter();
    await plain.writer.addScalars(1, { loss: 1 });
    await plain.writer.end();
    expect(eventsOf(plain.bytes())).toHaveLength(2);
    const open = memoryWriter();
    await open.writer.addHparams({ rank: 1 });
    await open.writer.end("failure");
    const values = eventsOf(open.bytes()).flatMap((event) => event.values);
    expect(values.map(tagOf)).toEqual(["_hparams_/session_start_info", "_hparams_/session_end_info"]);
  });

  it("are appended in whole records, in the order of the calls, without waiting", async () => {
    const pieces: Uint8Array[] = [];
    const writer = new SummaryWriter(async (records) => {
      // The first append takes longest.
      await new Promise((resolve) => setTimeout(resolve, pieces.length === 0 ? 10 : 0));
      pieces.push(records);
    });
    await Promise.all([1, 2, 3].map((step) => writer.addScalars(step, { loss: step })));
    expect(pieces).toHaveLength(3);
    for (const piece of pieces) expect(recordsOf(piece).rest).toBe(0);
    expect(pieces.flatMap(eventsOf).map(({ step }) => step)).toEqual([0, 1, 2, 3]);
  });

  it("refuse a step that is no count, and write nothing of it", async () => {
    const { writer, pieces } = memoryWriter();
    for (const step of [-1, 0.5, NaN, 2 ** 53]) {
      const { fact } = await failure(() => writer.addScalars(step, { loss: 1 }), ConfigError);
      expect(fact).toContain(String(step));
    }
    expect(pieces).toEqual([]);
    await failure(() => memoryWriter({ purgeStep: -1 }), ConfigError);
  });
});

describe("openSummaryWriter", () => {
  it("makes the directory and a file that TensorBoard finds, and one more for a run that goes on", async () => {
    const folder = path("runs", "first");
    const first = await openSummaryWriter(folder);
    for (const step of [1, 2, 3, 4]) await first.addScalars(step, { loss: step });
    const [name] = eventFiles(folder);
    expect(name).toMatch(/^events\.out\.tfevents\.\d{10}\..+/);
    // The process ended while it wrote a record.
    appendFileSync(join(folder, name!), readFileSync(join(folder, name!)).subarray(0, 20));
    const second = await openSummaryWriter(folder, { purgeStep: 3 });
    for (const step of [3, 4, 5]) await second.addScalars(step, { loss: 10 * step });
    expect(eventFiles(folder)).toHaveLength(2);
    const events = eventsIn(folder);
    expect(events.filter(({ version }) => version === "brain.Event:2")).toHaveLength(2);
    expect(events.filter(({ session }) => session === 1).map(({ step }) => step)).toEqual([3, 3]);
    expect([...scalarsOf(events).get("loss")!]).toEqual([
      [1, 1],
      [2, 2],
      [3, 30],
      [4, 40],
      [5, 50],
    ]);
    expect(Math.abs(events[0]!.wallTime - Date.now() / 1000)).toBeLessThan(60);
  });

  it("has every record in the file when its call has ended", async () => {
    const writer = await openSummaryWriter(path("runs"));
    const file = path("runs", eventFiles(path("runs"))[0]!);
    for (const step of [1, 2]) {
      await writer.addScalars(step, { loss: 1 });
      const { records, rest } = recordsOf(readFileSync(file));
      expect([records.length, rest]).toEqual([step + 1, 0]);
    }
  });

  it("refuses a file in the directory's place", async () => {
    writeFileSync(path("file"), "");
    const { fact } = await failure(() => openSummaryWriter(path("file")), FileFormatError);
    expect(fact).toContain(path("file"));
  });
});
