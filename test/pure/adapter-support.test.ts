import { readFileSync } from "node:fs";
import { expect, it } from "vitest";
import { ADAPTER_KINDS } from "safetape/analysis";
import { adaptersCommand } from "../../src/cli/adapters";
import type { AdapterSupport } from "../../src/cli/adapters";
import { parseJson } from "../support/json";

async function printed(raw = {}): Promise<string[]> {
  const lines: string[] = [];
  await adaptersCommand(raw, (line) => lines.push(line));
  return lines;
}

const supported = async (): Promise<AdapterSupport[]> => parseJson((await printed({ json: true })).join("\n"));

it("safetape adapters says what every kind of adapter supports", async () => {
  const support = await supported();
  expect(support.map(({ kind }) => kind)).toEqual(ADAPTER_KINDS);
  const of = (kind: string) => support.find((each) => each.kind === kind);
  expect(of("lora")).toEqual({
    kind: "lora",
    peftType: "LORA",
    load: "peft",
    save: "peft",
    merge: true,
    gguf: "adapter",
  });
  expect(of("vera")).toMatchObject({ peftType: "VERA", load: "peft", save: "peft", merge: true, gguf: "lora" });
  expect(of("loha")).toMatchObject({ peftType: "LOHA", load: "peft", save: "peft", merge: true, gguf: "lora" });
  expect(of("lokr")).toMatchObject({ peftType: "LOKR", load: "peft", save: "peft", merge: true, gguf: "merged" });
  expect(of("oft")).toMatchObject({ peftType: "OFT", load: "peft", save: "peft", merge: true, gguf: "merged" });
  expect(of("sora")).toMatchObject({ peftType: "SAFETAPE_SORA", load: "own", save: "lora", merge: true, gguf: "lora" });
  expect(of("dora")).toMatchObject({ peftType: "LORA", load: "peft", save: "peft", merge: true, gguf: "merged" });
  expect(of("bitfit")).toMatchObject({ load: "own", save: "own", merge: true, gguf: "merged" });
  expect(of("ln_tuning")).toEqual({
    kind: "ln_tuning",
    peftType: "LN_TUNING",
    load: "peft",
    save: "peft",
    merge: true,
    gguf: "merged",
  });
  expect(of("houlsby")).toMatchObject({ load: "own", save: "own", merge: false, gguf: "no" });
  expect(of("prompt")).toMatchObject({
    peftType: "PROMPT_TUNING",
    load: "peft",
    save: "peft",
    merge: false,
    gguf: "no",
  });
  expect(of("prefix_tuning")).toMatchObject({ peftType: "PREFIX_TUNING", load: "peft", save: "peft", merge: false });
  expect(of("p_tuning")).toMatchObject({ peftType: "P_TUNING", load: "peft", save: "peft", merge: false });
  expect(of("full")).toEqual({ kind: "full", load: "no", save: "model", merge: true, gguf: "merged" });
});

it("the guide's table has the types of PEFT's adapters", async () => {
  const page = readFileSync("docs/guide/methods.md", "utf8");
  const [, table = ""] = /\n(\| method[^]*?)\n\n/.exec(page) ?? [];
  const types = new Set([...table.matchAll(/`([A-Z][A-Z0-9_]+)`/g)].map(([, type]) => type));
  const support = await supported();
  expect([...types].sort()).toEqual(
    [...new Set(support.flatMap(({ load, peftType }) => (load === "peft" ? [peftType] : [])))].sort(),
  );
});

it("and prints a line for each", async () => {
  const lines = await printed();
  expect(lines[0]).toMatch(/^adapter +peft_type +train +load +save +merge +GGUF$/);
  expect(lines.slice(1, -1).map((line) => line.split(" ", 1)[0])).toEqual(ADAPTER_KINDS);
  expect(lines.find((line) => line.startsWith("lora "))).toMatch(/^lora +LORA +yes +PEFT +PEFT +yes +yes$/);
});
