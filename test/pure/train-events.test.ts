import { readFileSync } from "node:fs";
import * as v from "valibot";
import { describe, expect, it, vi } from "vitest";
import { commandLine } from "../../src/cli/train";
import { clock } from "../../src/report/units";
import { bar, layerRow, memoryBar } from "../../src/cli/view/bars";
import { TRAIN_EVENT } from "../../src/cli/view/events";
import type { TrainEvent } from "../../src/cli/view/events";
import { RunView } from "../../src/cli/view/run-view";
import { Screen } from "../../src/cli/view/screen";
import { showProgress } from "../../src/cli/view/progress";
import type { StepReport } from "safetape";
import { schemaFiles } from "../../scripts/schema-files";
import { MADE_UP_COMPACTION, madeUpMatrices, madeUpRecord } from "../support/run-record";

const record = madeUpRecord();

/** A screen, on a terminal or not, and the text that was written to it. */
function screenOn(isTTY: boolean, isQuiet = false) {
  const written: string[] = [];
  const write = (text: string): boolean => written.push(text) > 0;
  // The view uses these members alone.
  const stream = { isTTY, columns: 100, rows: 30, write, hasColors: () => false } as unknown as NodeJS.WriteStream;
  return { screen: new Screen(isQuiet, stream), text: () => written.join("") };
}

/** The reports of the trainer that a record is from. */
function* reportsOf({ steps, freezes, compactions } = record): Generator<StepReport> {
  for (const step of steps) {
    const freezesNow = freezes.filter((freeze) => freeze.step === step.step);
    const skipped = step.step === 5 ? [{ step: 4, what: "loss", value: "NaN" }] : [];
    const compaction = compactions?.find((event) => event.step === step.step);
    const rest = { horizon: 0, prefix: undefined, scores: undefined, compaction, skipped };
    yield { ...step, ...rest, totalSteps: steps.length, freezes: freezesNow };
  }
}

/** Shows a whole run, and returns the text and the events. */
function showRun(isTTY: boolean, run = record) {
  const { screen, text } = screenOn(isTTY);
  const events: TrainEvent[] = [];
  const trained = new Map(run.trained.map((name, i) => [name, { layer: run.trainedLayers?.[i] ?? undefined }]));
  const view = new RunView(screen, (event) => events.push(event), trained);
  for (const report of reportsOf(run)) view.show(report);
  view.evaluated(run.steps.length, { accuracy: 0.5 });
  view.stop();
  return { text: text(), events };
}

describe("what a run shows", () => {
  it("is about twenty lines without control codes if there is no terminal", () => {
    const { text } = showRun(false);
    const lines = text.trimEnd().split("\n");
    expect(lines.filter((line) => /^\d+\/120 /.test(line))).toHaveLength(20);
    expect(lines.filter((line) => line.includes("froze the"))).toHaveLength(3);
    expect(lines.filter((line) => line.includes("skipped a batch because its loss is NaN"))).toHaveLength(1);
    expect(lines).toHaveLength(25);
    expect(text).not.toContain("\u001b");
  });

  it("has a line for each time that heads and neurons are cut out", () => {
    const { text, events } = showRun(false, { ...record, compactions: [MADE_UP_COMPACTION] });
    expect(text).toContain("step 60: 6 groups of heads and 128 neurons are cut out; 6.0 MB returned");
    const told = events.filter(({ type }) => type === "compaction");
    expect(told).toEqual([{ type: "compaction", ...MADE_UP_COMPACTION }]);
    expect(v.is(TRAIN_EVENT, told[0])).toBe(true);
  });

  it("does not list each of many tensors that freeze one by one", () => {
    expect(showRun(false, madeUpMatrices()).text.split("\n").length).toBeLessThan(45);
  });

  it("is a block in a terminal, with step, loss, memory and layers", () => {
    const { text } = showRun(true);
    const block = text.slice(text.lastIndexOf("step   "));
    expect(block).toMatch(/120\/120 100 % {2}0:00 left/);
    expect(block).toMatch(/loss .* examples\/s {2}0\.20 s\/step/);
    expect(block).toMatch(/32\.8 MB of at most 46\.4 MB/);
    expect(block).toMatch(/layers ████··/);
  });

  it("is nothing on a quiet screen", () => {
    const { screen, text } = screenOn(true, true);
    screen.say("a line");
    screen.show("part", ["a block"]);
    screen.end();
    expect(text()).toBe("");
  });

  it("has events for programs, which match the published schema", () => {
    const { events } = showRun(false);
    for (const event of events) expect(v.is(TRAIN_EVENT, JSON.parse(JSON.stringify(event))), event.type).toBe(true);
    const count = (type: TrainEvent["type"]) => events.filter((event) => event.type === type).length;
    expect([count("step"), count("freeze"), count("evaluation")]).toEqual([120, 3, 1]);
  });
});

describe("progress of other work", () => {
  it("is silent for a second, then prints the share done, less often than it changes", async () => {
    vi.useFakeTimers({ toFake: ["performance", "setInterval", "clearInterval"] });
    try {
      const { screen, text } = screenOn(false);
      const events: TrainEvent[] = [];
      const emit = (event: TrainEvent): void => void events.push(event);
      await showProgress(screen, emit, "short work", () => Promise.resolve());
      await showProgress(screen, emit, "loading", (onProgress) => {
        for (let done = 1; done <= 100; done++) {
          vi.advanceTimersByTime(100);
          onProgress(done, 100);
        }
        return Promise.resolve();
      });
      const lines = text().trimEnd().split("\n");
      expect(lines.length).toBeGreaterThan(3);
      expect(lines.length).toBeLessThan(8);
      expect(lines[0]).toMatch(/^loading: (?:9|10) %$/);
      expect(events.every((event) => event.type === "progress" && event.what === "loading")).toBe(true);
      expect(events).toHaveLength(lines.length);
    } finally {
      vi.useRealTimers();
    }
  });
});

describe("bars", () => {
  const colours = screenOn(false).screen.colours;
  it("are filled to their share", () => {
    expect(bar(0.5, 4)).toBe("██░░");
    expect(bar(2, 4)).toBe("████");
  });
  it("give each lifetime a part of the width in proportion to its bytes", () => {
    const bytes = { weight: 50, state: 0, saved: 30, scratch: 20 };
    expect(memoryBar(bytes, 200, 20, colours)).toBe("█████▒▒▒░░          ");
  });
  it("fill as a layer's tensors freeze, and are full only if all of them are frozen", () => {
    const names = (layer: number) => Array.from({ length: 16 }, (_, i) => `${layer}.${i}`);
    const layers = new Map([0, 1, 2, 3].map((layer) => [layer, names(layer)] as const));
    const frozen = new Set([...names(0), ...names(1).slice(0, 15), ...names(2).slice(0, 1)]);
    expect(layerRow(layers, frozen)).toBe("█▇▁·");
  });
  it("have durations beside them", () =>
    expect([clock(5), clock(65), clock(7265)]).toEqual(["0:05", "1:05", "2:01:05"]));
});

it("a command line in a record is quoted for the shell", () => {
  const args = ["train", "--freeze", `{"policy": "it's"}`, "--lr", "1e-3"];
  expect(commandLine(args)).toBe(`safetape train --freeze '{"policy": "it'\\''s"}' --lr 1e-3`);
});

it.each(schemaFiles())("$file is the schema that the code checks with (npm run schema writes it)", ({ file, text }) => {
  expect(JSON.parse(readFileSync(file, "utf8"))).toEqual(JSON.parse(text));
});
