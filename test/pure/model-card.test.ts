import { describe, expect, it } from "vitest";
import { memoryDirectory } from "safetape/data";
import { ConfigError } from "safetape/engine";
import { cardFiles, cardText, checkedBaseModel, hubIdOf, isHubId } from "../../src/io/model-card";
import type { CardSubject } from "../../src/io/model-card";
import { failure } from "../support/failure";

const LORA: CardSubject = { peftType: "LORA", task: "sequence_classification", baseModel: "owner/name" };

describe("a model card", () => {
  it("has the metadata that the Hub reads, results, and ends with PEFT's version", () => {
    const text = cardText(LORA, {
      license: "apache-2.0",
      language: ["en", "no"],
      datasets: ["nyu-mll/glue"],
      results: [
        {
          dataset: "SST-2: reviews",
          datasetType: "nyu-mll/glue",
          split: "validation",
          metrics: { accuracy: 0.5, loss: 1e-7 },
        },
      ],
      text: "For tests.\n",
    });
    expect(text).toBe(`---
base_model: owner/name
datasets:
- nyu-mll/glue
language:
- en
- "no"
library_name: peft
license: apache-2.0
metrics:
- accuracy
- loss
pipeline_tag: text-classification
tags:
- base_model:adapter:owner/name
- lora
- transformers
model-index:
- name: "LORA adapter of owner/name"
  results:
  - task:
      type: text-classification
    dataset:
      name: "SST-2: reviews"
      type: nyu-mll/glue
      split: validation
    metrics:
    - type: accuracy
      value: 0.5
    - type: loss
      value: 1.0e-7
---

# LORA adapter of owner/name

<!-- Written by safetape, and again with every saveAdapter while this line is here. -->

An adapter of [owner/name](https://huggingface.co/owner/name) in PEFT's layout (\`LORA\`), trained with safetape.

For tests.

## Results

| data | part | metric | value |
| --- | --- | --- | --- |
| SST-2: reviews | validation | accuracy | 0.5 |
| SST-2: reviews | validation | loss | 1e-7 |

### Framework versions

- PEFT 0.21.0
`);
  });

  it("names no base model that it does not know, no task of encoder-decoders, and nothing that is not finite", () => {
    const results = [{ dataset: "own", metrics: { rouge: NaN, bleu: Infinity } }];
    const text = cardText({ peftType: "IA3", task: "seq2seq", baseModel: undefined }, { results });
    expect(text.split("---\n")[1]).toBe("library_name: peft\ntags:\n- transformers\n");
    expect(text).not.toMatch(/base_model|NaN|Infinity|Results/);
  });

  it.each([
    ["causal_lm", "text-generation"],
    ["regression", "text-classification"],
    ["token_classification", "token-classification"],
    ["question_answering", "question-answering"],
    ["image_classification", "image-classification"],
  ] as const)("of %s has the pipeline %s", (task, pipeline) => {
    expect(cardText({ ...LORA, task }, {})).toContain(`\npipeline_tag: ${pipeline}\n`);
  });

  it("replaces a card that was written here, and no other README.md", async () => {
    const directory = memoryDirectory("adapter");
    const save = async (baseModel: string): Promise<string | undefined> => {
      await directory.writeTogether(await cardFiles(directory, { ...LORA, baseModel }, {}));
      return new TextDecoder().decode(await directory.read("README.md"));
    };
    expect(await save("owner/first")).toContain("base_model: owner/first\n");
    expect(await save("owner/second")).toContain("base_model: owner/second\n");
    await directory.write("README.md", new TextEncoder().encode("# My own\n"));
    expect(await save("owner/third")).toBe("# My own\n");
  });
});

describe("the ID of a base model", () => {
  it.each([
    ["https://huggingface.co/owner/name/resolve/main/", "owner/name"],
    ["https://huggingface.co/gpt2/resolve/0123abc/", "gpt2"],
    ["/home/me/.cache/hub/models--google-bert--bert-base-uncased/snapshots/86b5e09", "google-bert/bert-base-uncased"],
    ["C:\\hub\\models--gpt2\\snapshots\\86b5e09", "gpt2"],
    ["examples/model", undefined],
    ["/home/owner/name", undefined],
    ["https://models.example/owner/name/resolve/main/", undefined],
    ["models--owner--name", undefined],
  ])("of %s is %s", (name, id) => {
    expect(hubIdOf(name)).toBe(id);
  });

  it("is no path", async () => {
    for (const path of [
      "./owner/name",
      "/owner/name",
      "a/b/c",
      "../name",
      "owner/..",
      "C:\\model",
      "",
      "owner/",
      "a--b/c",
    ]) {
      expect(isHubId(path), path).toBe(false);
      const { fact } = await failure(() => checkedBaseModel(path), ConfigError);
      expect(fact).toContain(path);
    }
    for (const id of ["owner/name", "gpt2", "01-ai/Yi-1.5_6B"]) expect(checkedBaseModel(id)).toBe(id);
  });
});
