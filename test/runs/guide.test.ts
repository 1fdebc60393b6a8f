import { mkdirSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { basename, join } from "node:path";
import { afterAll, beforeAll, describe, expect, it, vi } from "vitest";
import type { Op } from "safetape";
import { testDevice } from "../support/device";
import { blocksOf, syntaxErrors } from "../support/guide";
import { forwardErrors, GRADIENT_TOLERANCE, gradientErrors, TOLERANCE } from "../support/op-checks";
import { caseInputs, randomOutput, runCase } from "../support/op-runs";

/** The guide's pages: the `js` blocks of a page are one program, run as a reader would, in a folder beside examples/. */
const ROOT = process.cwd();
const GUIDE = join(ROOT, "docs", "guide");
const FOLDER = join(ROOT, "test", ".cache", `guide-${process.env["SAFETAPE_ADAPTER"] ?? "any"}`);
const pages = readdirSync(GUIDE)
  .filter((file) => file.endsWith(".md"))
  .map((file) => ({ name: basename(file, ".md"), blocks: blocksOf(readFileSync(join(GUIDE, file), "utf8")) }));

/** Why blocks of other kinds are not run here. */
const UNRUN: Readonly<Record<string, string>> = {
  "js browser": "belongs in a page: test/browser runs the published file in Chromium",
  html: "a page: test/browser runs the published file in Chromium",
  python: "needs torch and peft: test/interop/check.py runs the like",
  bash: "installs packages or trains at length; its commands and options are looked up",
  text: "output",
};

const PROGRAM = readFileSync(join(ROOT, "src", "cli", "main.ts"), "utf8");

/** Commands and options of safetape in shell lines that the program does not have. */
function unknownWords(code: string): string[] {
  const lines = code.replaceAll("\\\n", " ").split("\n");
  return lines.flatMap((line) => {
    const [, command, rest = ""] = /^npx safetape (\S+)(.*)$/.exec(line) ?? [];
    if (command === undefined) return [];
    const words = [command, ...(rest.match(/--[\w-]+/g) ?? [])];
    return words.filter((word) => !new RegExp(`["[ ]${word}["\\] ]`).test(PROGRAM));
  });
}

beforeAll(() => {
  rmSync(FOLDER, { recursive: true, force: true });
  mkdirSync(FOLDER, { recursive: true });
  symlinkSync(join(ROOT, "examples"), join(FOLDER, "examples"), "dir");
  process.chdir(FOLDER);
});
afterAll(() => {
  process.chdir(ROOT);
  rmSync(FOLDER, { recursive: true, force: true });
});

const programs = new Map<string, Promise<unknown>>();

/** Runs a page's program once. */
function run(name: string): Promise<unknown> {
  const known = programs.get(name);
  if (known) return known;
  const { blocks } = pages.find((page) => page.name === name)!;
  const code = blocks.filter(({ language, mark }) => language === "js" && mark === "").map((block) => block.code);
  const path = join(FOLDER, `${name}.mjs`);
  writeFileSync(path, code.join("\n"));
  const running = import(/* @vite-ignore */ path);
  programs.set(name, running);
  return running;
}

describe.each(pages)("the guide's page $name", ({ name, blocks }) => {
  it.runIf(blocks.some(({ language, mark }) => language === "js" && mark === ""))("runs", async () => {
    const log = vi.spyOn(console, "log").mockImplementation(() => undefined);
    try {
      await run(name);
    } finally {
      log.mockRestore();
    }
  });

  it("has only blocks that are run, or that say why not", () => {
    for (const block of blocks) {
      const kind = `${block.language} ${block.mark}`.trim();
      if (kind === "js") continue;
      expect(UNRUN[kind], `line ${block.line} of ${name}.md: a block of kind "${kind}"`).toBeDefined();
      if (["js browser", "html"].includes(kind)) expect(syntaxErrors(block), `line ${block.line}`).toEqual([]);
      if (kind === "bash") expect(unknownWords(block.code), `line ${block.line}`).toEqual([]);
      // eslint-disable-next-line no-console -- says what is not covered
      console.info(`${name}.md:${block.line} is not run: ${UNRUN[kind]}`);
    }
  });
});

describe("the op that the guide writes", () => {
  it("computes what its float64 reference does, forward and backward", async () => {
    const { softSign } = (await run("op")) as { softSign: Op };
    const device = await testDevice();
    for (const test of softSign.cases) {
      const inputs = caseInputs(softSign, test);
      const dy = randomOutput(softSign, test, inputs);
      const all = await runCase(device, softSign, test, inputs, { trainable: ["x"], dy });
      for (const [, error] of forwardErrors(softSign, test, all, inputs)) expect(error).toBeLessThan(TOLERANCE);
      const errors = gradientErrors(softSign, test, all, inputs, dy);
      expect(errors).toHaveLength(1);
      for (const [, error] of errors) expect(error).toBeLessThan(GRADIENT_TOLERANCE);
    }
    device.close();
  });
});
