import { describe, expect, it } from "vitest";
import { bitfit, createModel } from "safetape";
import { loraPlusGroups } from "safetape/analysis";
import { ConfigError } from "safetape/engine";
import { adapterFromConfig } from "../../src/adapter/kinds";
import { adamW } from "../../src/optimizer/adamw";
import { groupOf } from "../../src/optimizer/settings";
import { isInHead } from "../../src/model/model";
import { failure } from "../support/failure";
import { readJson } from "../support/json";
import { tiny } from "../support/tiny";
import type { Config } from "../support/tiny";

interface LoraPlusRates {
  readonly learningRate: number;
  readonly ratio: number;
  readonly weightDecay: number;
  readonly cases: readonly {
    readonly family: string;
    readonly options: Readonly<Record<string, unknown>>;
    /** Learning rate and weight decay by tensor. */
    readonly settings: Readonly<Record<string, readonly [number, number]>>;
  }[];
}

const { cases, learningRate, ratio, weightDecay } = readJson<LoraPlusRates>("test/interop/lora-plus.json");

describe("LoRA+", () => {
  it.each(cases)("has PEFT's rates and decays: $family, $options", async ({ family, options, settings }) => {
    const model = createModel(readJson<Config>(`test/interop-data/${family}/base/config.json`));
    const adapter = await adapterFromConfig({ peft_type: "LORA", r: 2, ...options }, "the test");
    const groups = loraPlusGroups(adapter, model, { learningRate, ratio });
    const optimizer = adamW({ learningRate, weightDecay, groups });
    const trained = [...adapter.tensors(model).map(({ name }) => name), ...(adapter.baseTensors?.(model) ?? [])];
    const own = trained.map((name) => {
      const group = groupOf(optimizer.settings, name, isInHead(model, name));
      return [name, [group.learningRate, group.weightDecay]] as const;
    });
    expect(Object.fromEntries(own)).toEqual(settings);
  });

  it("is refused for other adapters, and for ratios that are not above 0", async () => {
    const model = createModel(tiny.bert());
    const groups = (adapter: Parameters<typeof loraPlusGroups>[0], of: number) => () =>
      loraPlusGroups(adapter, model, { learningRate: 1e-3, ratio: of });
    expect((await failure(groups(bitfit(), 16), ConfigError)).message).toMatch(/the adapter is bitfit/);
    const lora = await adapterFromConfig({ peft_type: "LORA" }, "the test");
    for (const wrong of [0, -1, NaN, Infinity])
      expect((await failure(groups(lora, wrong), ConfigError)).message).toMatch(/ratio of LoRA\+ is/);
  });
});
