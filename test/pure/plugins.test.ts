import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { createModel } from "safetape";
import { sgd } from "safetape/engine";
import { PLAN, policyFrom, TRAIN } from "../../src/cli/flags";
import { readOptions, UsageError } from "../../src/cli/options";
import type { RawOptions } from "../../src/cli/options";
import { planCommand } from "../../src/cli/plan";
import { loadPlugins } from "../../src/cli/plugin/load";
import { ADDED, guarded } from "../../src/cli/plugin/registries";
import { trainerSettings } from "../../src/cli/flags";
import { readTask, taskHead } from "../../src/cli/tasks/tasks";
import { withFallbacks } from "../../src/cli/options";
import { failure } from "../support/failure";
import { parseJson } from "../support/json";

let folder: string;
let forget: () => void = () => undefined;
beforeEach(() => (folder = mkdtempSync(join(tmpdir(), "plugin-"))));
afterEach(() => {
  forget();
  forget = () => undefined;
  rmSync(folder, { recursive: true });
});

/** Writes a module. @returns its path. */
function file(code: string, name = "mine.mjs"): string {
  const path = join(folder, name);
  writeFileSync(path, code);
  return path;
}

const load = async (...files: string[]): Promise<void> => void (forget = await loadPlugins(files));
const options = (raw: RawOptions) =>
  readOptions(TRAIN, withFallbacks(TRAIN, { model: "m", task: "sst2", data: "d", out: "o", ...raw }));

describe("a plugin", () => {
  it("gives options names to choose, until it is forgotten", async () => {
    await load(
      file("export const losses = { own: () => 1 }; export const schedules = { own: () => 0.5 };"),
      file("export default { optimizers: { own: ({ learningRate }) => ({ learningRate }) } };", "other.mjs"),
    );
    const { loss, schedule, optimizer } = options({ loss: "own", schedule: "own", optimizer: "own" });
    expect({ loss: loss?.name, schedule, optimizer }).toEqual({ loss: "own", schedule: "own", optimizer: "own" });
    forget();
    expect(() => options({ loss: "own" })).toThrow(/^--loss is own\.\nGive the --plugin that exports it/);
    expect(() => options({ schedule: "own" })).toThrow(/--schedule is own\.\nIt may be linear, cosine/);
  });

  it("makes the trainer's settings", async () => {
    await load(file("export const schedules = { half: () => 0.5 };"));
    forgetAlso(ADDED.optimizers.add("mine", ({ learningRate = 0 }) => sgd({ learningRate })));
    const values = options({ schedule: "half", optimizer: "mine", lr: 0.25 });
    const { schedule, optimizer } = trainerSettings({ policy: "never" }, values);
    expect(optimizer.settings.learningRate).toBe(0.25);
    expect(typeof schedule === "function" && schedule(3, 4)).toBe(0.5);
    expect(() => trainerSettings({ policy: "never" }, options({ schedule: "half", warmupSteps: 2 }))).toThrow(
      /^--warmup-steps does not belong to the plugin's --schedule half\./,
    );
    forgetAlso(ADDED.optimizers.add("none", () => undefined as never)); // a plugin has no types
    expect(() => trainerSettings({ policy: "never" }, options({ optimizer: "none" }))).toThrow(
      /^--optimizer none: The optimizer none of a plugin is undefined\.\nReturn an Optimizer/,
    );
  });

  it("has policies, which check their options themselves", async () => {
    await load(
      file(
        "export const policies = { own: ({ every }) => " +
          '({ kind: "freezing", name: "own", settings: { every }, start: () => ({ isDue: () => false, decide: async () => [] }) }), ' +
          'none: () => ({ kind: "freezing" }), bad: () => { throw new Error("no rank"); } };',
      ),
    );
    const policyOf = (freeze: string) => {
      const { freeze: choice, ...values } = options({ freeze });
      return policyFrom(choice, values);
    };
    expect(policyOf('{"policy": "own", "every": 3}')).toMatchObject({ name: "own", settings: { every: 3 } });
    expect(() => policyOf("none")).toThrow(/^--freeze: The policy none of a plugin is not a policy\.\nReturn \{ kind/);
    expect(() => policyOf("bad")).toThrow(/The policy bad of .*mine\.mjs throws: no rank\n/);
    forget();
    expect(() => policyOf("own")).toThrow(/^--freeze is own\.\nIt may be never, safe, .*\.$/);
  });

  it("has families, which plans then know", async () => {
    const bert = '{ ...createModel({ ...config, model_type: "bert" }), family: "mine" }';
    const source = JSON.stringify(join(process.cwd(), "src/model/families.ts"));
    await load(file(`import { createModel } from ${source}; export const families = { mine: (config) => (${bert}) };`));
    const sizes = {
      hidden_size: 16,
      num_hidden_layers: 2,
      num_attention_heads: 2,
      intermediate_size: 32,
      vocab_size: 9,
    };
    const config = file(JSON.stringify({ ...sizes, model_type: "mine", max_position_embeddings: 8 }), "config.json");
    const printed: string[] = [];
    await planCommand(withFallbacks(PLAN, { config, json: true }), (line) => void printed.push(line));
    expect(parseJson<{ layers: number }>(printed.join("")).layers).toBe(2);
    forget();
    expect(() => createModel({ model_type: "mine" })).toThrow(/not supported/);
  });

  it("has tasks, which are read by their names", async () => {
    await load(
      file(
        'export const tasks = { mine: { head: { labels: 4 }, read: ({ path, choose }) => ({ truncated: choose("dev", [...path]).length }) } };',
      ),
    );
    expect(await taskHead("mine", "")).toEqual({ labels: 4 });
    const reading = { path: "abc" } as Parameters<typeof readTask>[1]; // The rest is not read.
    expect((await readTask("mine", reading)).truncated).toBe(3);
    await expect(taskHead("other", "")).rejects.toThrow(/images, mine\.$/);
  });

  it.each([
    ["a file that is not there", undefined, /^FILE cannot be loaded: .*\nGive a module/],
    ["a file that throws", "null.length", /^FILE cannot be loaded: Cannot read properties of null.*\nGive a module/],
    [
      "no export of a plugin's",
      "export const lossses = {};",
      /^FILE exports nothing that a plugin may add\.\nExport one of families, optimizers/,
    ],
    ["a list in place of names", "export const losses = 3;", /^FILE: losses is not an object with entries\.\n/],
    [
      "a number in place of a function",
      "export const losses = { focal: 2 };",
      /^FILE: the loss focal is not a function\.\nMake it a function\.$/,
    ],
    [
      "a task without a reader",
      "export const tasks = { mine: { head: {} } };",
      /^FILE: the task mine is not an object \{ head, read \}\.\n/,
    ],
    [
      "the name of a family that exists",
      "export const families = { bert: () => 1 };",
      /^FILE: The model family bert exists already\.\nGive it a name/,
    ],
    [
      "the name of an optimizer that exists",
      "export const optimizers = { adamw: () => 1 };",
      /^FILE: The optimizer adamw exists already\.\n/,
    ],
    [
      "the name of a schedule that exists",
      "export const schedules = { cosine: () => 1 };",
      /^FILE: The schedule cosine exists already\.\n/,
    ],
    [
      "the name of a metric that exists",
      "export const metrics = { f1: () => 1 };",
      /^FILE: The metric f1 exists already\.\n/,
    ],
    [
      "the name of a task that exists",
      "export const tasks = { lm: { head: {}, read() {} } };",
      /^FILE: The task lm exists already\.\n/,
    ],
  ])("is refused with its file and one remedy: %s", async (_, code, expected) => {
    const path = code === undefined ? join(folder, "none.mjs") : file(code);
    const error = await failure(() => load(path), UsageError);
    expect(error.message.replaceAll(path, "FILE")).toMatch(expected);
  });

  it("adds nothing where one of its names, or a later file, is refused", async () => {
    const first = file("export const losses = { own: () => 1 };");
    const second = file("export const losses = { own: () => 1 };", "second.mjs");
    await failure(() => load(first, second), UsageError);
    expect(ADDED.losses.names).toEqual([]);
  });

  it.each<[string, () => unknown]>([
    ["throws", (): unknown => JSON.parse("Cannot read")],
    ["rejects", () => Promise.reject(new TypeError("Cannot read size"))],
  ])("is named where one of its functions %s", async (_, body) => {
    const wrapped = guarded("The loss focal of mine.mjs", "focal", body);
    expect(wrapped.name).toBe("focal");
    const { message } = await failure(() => wrapped());
    expect(message).toMatch(/^The loss focal of mine\.mjs throws: .*Cannot read.*\nCorrect the plugin/);
  });
});

/** Removes something else after the test, too. */
function forgetAlso(remove: () => void): void {
  const before = forget;
  forget = () => {
    before();
    remove();
  };
}
