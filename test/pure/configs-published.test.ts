import { readdirSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { createModel } from "../../src/index";
import { withHead } from "../../src/model/families";
import type { ParameterSpec } from "../../src/model/model";
import { failure } from "../support/failure";
import { readJson } from "../support/json";
import { sharedData, unless } from "../support/shared-data";
import type { Config } from "../support/tiny";

/** What transformers builds of a configuration; the counts are missing for what is too large for it. */
interface Counted {
  /** Tied tensors count once. */
  readonly parameters?: number | null;
  readonly class?: string | null;
}

/** Families that are not there, by model_type. */
const REFUSED = [
  ["DeepSeek-V3", "deepseek_v3"],
  ["LFM2-VL-450M", "lfm2-vl"],
  ["Llama-4-Scout-17B-16E", "llama4"],
  ["Mixtral-8x7B", "mixtral"],
  ["Qwen2-VL-2B", "qwen2_vl"],
  ["Qwen3-30B-A3B", "qwen3_moe"],
  ["clip-vision", "clip_vision_model"],
  ["gemma-7b", "gemma"],
  ["gpt-oss-20b", "gpt_oss"],
  ["llava-1.5-7b-hf", "llava"],
  ["stablelm-3b", "stablelm"],
] as const;

const folder = sharedData("configs");
const names = folder === undefined ? [] : readdirSync(folder).map((file) => file.replace(".json", ""));
const refused = new Set<string>(REFUSED.map(([name]) => name));
const supported = names.filter((name) => name !== "index" && !refused.has(name));

const configOf = (name: string): Config => readJson<Config>(join(folder!, `${name}.json`));

const sizeOf = ({ shape }: ParameterSpec): number => shape.reduce((a, b) => a * b, 1);

/** Parameters of the class that transformers built, as this library counts them. */
function countAs(name: string, architecture: string): number {
  const config = configOf(name);
  const { parameters } = createModel(
    architecture.endsWith("ForMaskedLM") ? withHead(config, { task: "masked_lm" }) : config,
  );
  const isBare = architecture.endsWith("Model");
  // transformers 5 ties T5's output projection, of which published checkpoints of FLAN-T5 have one of their own.
  const leftOut = isBare ? /^(?:classifier|pooler|lm_head)\./ : architecture.startsWith("T5") ? /^lm_head\./ : /$^/;
  const counted = parameters.filter((parameter) => !leftOut.test(parameter.name));
  // A bare ViT has a pooler, which classifiers of images do not have.
  const pooler = architecture === "ViTModel" ? counted.at(-1)!.shape[0]! : 0;
  return counted.reduce((sum, parameter) => sum + sizeOf(parameter), pooler * (pooler + 1));
}

describe.skipIf(folder === undefined)(`the published configurations${unless(folder)}`, () => {
  it("are 73", () => {
    expect(supported.length + REFUSED.length).toBe(73);
  });

  it.each(supported)("%s has as many parameters as in transformers", (name) => {
    const { configs } = readJson<{ configs: Record<string, Counted> }>(join(folder!, "index.json"));
    const { parameters, class: architecture } = configs[name]!;
    expect(countAs(name, architecture!)).toBe(parameters);
  });

  it.each(REFUSED)("%s is refused by its model_type", async (name, type) => {
    const error = await failure(() => createModel(configOf(name)));
    expect(error.message).toContain(`model_type "${type}" is not supported.`);
  });
});
