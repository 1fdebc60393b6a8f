import { describe, expect, it } from "vitest";
import { bitfit, full, houlsby, lora, plan } from "safetape";
import { ADAPTER_KINDS, makeAdapter } from "safetape/analysis";
import type { Adapter } from "safetape";
import { FAMILIES, tiny } from "../support/tiny";
import type { Config, Family } from "../support/tiny";

const LAYERS = 3;
/** Options of an adapter kind where its defaults do not fit the tiny model. */
const OPTIONS: Readonly<Record<string, object>> = {
  // Else the three layers share one kept state, which they return together.
  meft: { stateEvery: 1 },
  prompt: { tokens: 4 },
  p_tuning: { tokens: 4 },
  prefix_tuning: { tokens: 4 },
  vera: { rank: 4 },
};
/** Families whose checkpoints have biases. */
const WITH_BIASES = FAMILIES.filter((family) => family !== "llama");

/** The plan of a step with everything below layer k frozen, for every k from 0 to the number of layers. */
function plansByFrozenPrefix(config: Config, adapter: Adapter) {
  const length = config["model_type"] === "vit" ? {} : { length: 16 };
  return Array.from({ length: LAYERS + 1 }, (_, k) => plan({ config, adapter, batch: 4, ...length, freezeBelow: k }));
}

function expectToFall(config: Config, adapter: Adapter): void {
  const plans = plansByFrozenPrefix(config, adapter);
  for (let k = 1; k <= LAYERS; k++) {
    expect(plans[k]!.bytes.saved, `kept with layers below ${k} frozen`).toBeLessThan(plans[k - 1]!.bytes.saved);
    expect(plans[k]!.peakBytes, `peak with layers below ${k} frozen`).toBeLessThan(plans[k - 1]!.peakBytes);
  }
  // Every layer returns the same, so that with all of them frozen only the head's own values are left.
  expect(plans[LAYERS]!.bytes.saved).toBeLessThan(plans[0]!.bytes.saved / (2 * LAYERS));
}

describe("freezing everything below a layer lowers the planned bytes, layer by layer", () => {
  // The prompt lies below the layers, and nothing in them learns.
  it.each(ADAPTER_KINDS.filter((kind) => !["prompt", "p_tuning"].includes(kind)))("%s", (kind) => {
    expectToFall(tiny.bert(), makeAdapter({ kind, ...OPTIONS[kind] }));
  });

  it("prefix tuning with a projection, whose shared part freezes with the lowest layer", () => {
    expectToFall(tiny.bert(), makeAdapter({ kind: "prefix_tuning", tokens: 4, projection: true }));
  });

  it.each(WITH_BIASES)(
    "BitFit and LoRA with all biases in %s, whose embeddings have biases or learn nothing",
    (family) => {
      expectToFall(tiny[family](), bitfit());
      expectToFall(tiny[family](), lora({ rank: 2, bias: "all" }));
    },
  );

  it("BitFit and LoRA with added biases", () => {
    expectToFall(tiny.llama(), bitfit({ addBiases: true }));
    expectToFall(tiny.llama(), lora({ rank: 2, bias: "all", addBiases: true }));
  });

  it.each(["bert", "gpt2"] as const)("Houlsby's adapters with the norms of %s, also those of embeddings", (family) => {
    expectToFall(tiny[family](), houlsby({ size: 4, trainsNorms: true }));
  });

  it.each<Family>([...FAMILIES])("full tuning of %s, embeddings included", (family) => {
    expectToFall(tiny[family](), full());
  });
});

it("a frozen prompt gives back all layers at once", () => {
  const [live, ...frozen] = plansByFrozenPrefix(tiny.bert(), makeAdapter({ kind: "prompt", tokens: 4 }));
  expect(new Set(frozen.map(({ peakBytes }) => peakBytes)).size).toBe(1);
  expect(frozen[0]!.bytes.saved).toBeLessThan(live!.bytes.saved / (2 * LAYERS));
});
