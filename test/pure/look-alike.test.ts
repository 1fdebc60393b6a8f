import { expect, it } from "vitest";
import { createModel } from "../../src/index";
import { lookAlikes } from "../../src/io/look-alike";
import { unwrapped } from "../../src/io/wrappers";
import { MODEL_TYPES } from "../../src/model/families";
import { tiny } from "../support/tiny";

const namesOf = (family: keyof typeof tiny): string[] => createModel(tiny[family]()).parameters.map(({ name }) => name);

// Object.keys forgets the type of the keys.
const ALL = Object.keys(tiny) as (keyof typeof tiny)[];

it("every family can be compared with", () => expect([...MODEL_TYPES].sort()).toEqual([...ALL].sort()));

it.each(ALL)("weights of %s are told from those of another family, in wrappers and without", async (family) => {
  const other = createModel(family === "gpt2" ? tiny.bert() : tiny.gpt2());
  const stored = new Map(namesOf(family).map((name) => [`module._orig_mod.${name}`, 0]));
  const found = await lookAlikes(other, [...unwrapped(stored).tensors.keys()]);
  expect(found).toContain(family);
  for (const type of found) {
    // All of the supported types have tiny models.
    const names = namesOf(type as keyof typeof tiny).map((name) => name.replace(/\.\d+\./g, "."));
    const expected = namesOf(family).map((name) => name.replace(/\.\d+\./g, "."));
    expect(new Set(names), `${type} and ${family} have the same names`).toEqual(new Set(expected));
  }
});

it.each([
  [
    "its own family, with a layer less",
    createModel(tiny.bert()),
    namesOf("bert").filter((name) => !name.includes(".1.")),
  ],
  [
    "its own family, with another head",
    createModel(tiny.gpt2({ architectures: ["GPT2ForSequenceClassification"] })),
    [...namesOf("gpt2"), "other_head.weight"],
  ],
  ["no family", createModel(tiny.bert()), ["unet.in.weight", "unet.out.weight", "bert.embeddings.LayerNorm.weight"]],
])("weights of %s look like no other", async (_, model, names) => {
  expect(await lookAlikes(model, names)).toEqual([]);
});
