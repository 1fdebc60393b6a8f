import { readFile, writeFile } from "node:fs/promises";
import { lora } from "../src/adapter/lora";
import type { WeightFormat } from "../src/base/packed";
import type { ActivationFormat } from "../src/op/pack";
import { plan } from "../src/train/estimate/predict";
import type { Recompute } from "../src/train/options";
import { provenance } from "../scripts/provenance.mjs";

/** What is stored in fewer bits, and what is run again. */
interface Way {
  readonly weights: WeightFormat;
  readonly activations: ActivationFormat;
  readonly recompute: Recompute;
}

/** A model of the papers' size, and what the paper measured for it, in GB. */
interface Known {
  readonly name: string;
  readonly title: string;
  readonly config: string;
  readonly batch: number;
  readonly length: number;
  /** SAFE, arXiv 2412.03587: LoRA -> SAFE, as measured there. */
  readonly paper: string;
  readonly ours: readonly Way[];
}

const WAYS: readonly Way[] = [
  { weights: "f32", activations: "f32", recompute: "none" },
  { weights: "f32", activations: "f32", recompute: "mlp" },
  { weights: "f32", activations: "f32", recompute: "layers" },
  { weights: "f16", activations: "f32", recompute: "none" },
  { weights: "f16", activations: "f16", recompute: "none" },
  { weights: "nf4", activations: "f32", recompute: "layers" },
];

const KNOWN: readonly Known[] = [
  {
    name: "bert-large",
    title: "BERT-large, 32 x 128",
    config: "bert-large",
    batch: 32,
    length: 128,
    paper: "20.35 -> 12.11",
    ours: WAYS,
  },
  {
    name: "roberta-large",
    title: "RoBERTa-large, 16 x 384",
    config: "roberta-large",
    batch: 16,
    length: 384,
    paper: "17.73 -> 3.56",
    ours: WAYS,
  },
  {
    name: "gpt2-medium",
    title: "GPT-2 medium, 8 x 512",
    config: "gpt2-medium",
    batch: 8,
    length: 512,
    paper: "16.97 -> 11.90 (mean of its tasks)",
    ours: WAYS,
  },
  {
    name: "llama-2-7b",
    title: "LLaMA-2 7B, 2 x 512",
    config: "llama-2-7b",
    batch: 2,
    length: 512,
    paper: "66.35 -> 34.20",
    ours: WAYS.slice(3),
  },
];

/** What `bench/peft-saved.py` counted for one model, one kind of attention and one number of frozen layers. */
interface Counted {
  readonly name: string;
  readonly dtype: string;
  readonly adapterDtype: string;
  readonly attention: "eager" | "fused";
  readonly frozenLayers: number;
  readonly weightBytes: number;
  readonly savedBytes: number | null;
}

/** PEFT's weights and saved tensors in GB, adapters in the base's type, from none to most layers frozen. */
async function countedByPeft(): Promise<(name: string, attention: Counted["attention"]) => string[]> {
  const file = JSON.parse(await readFile("bench/results/peft-saved.json", "utf8")) as { results: Counted[] };
  return (name, attention) =>
    file.results
      .filter((row) => row.name === name && row.attention === attention && row.adapterDtype === row.dtype)
      .sort((a, b) => a.frozenLayers - b.frozenLayers)
      .map(({ weightBytes, savedBytes }) =>
        savedBytes === null ? "?" : ((weightBytes + savedBytes) / 1e9).toFixed(2),
      );
}

/** LoRA steps at the papers' sizes, from configurations alone: peaks in GB beside the papers' and PEFT's. */
export async function plans(): Promise<void> {
  const results = [];
  for (const known of KNOWN) {
    const config = JSON.parse(await readFile(`bench/configs/${known.config}.json`, "utf8")) as Record<string, unknown>;
    for (const { weights, activations, recompute } of known.ours) {
      const { batch, length } = known;
      const request = { config, adapter: lora({ rank: 4 }), batch, length, weights, activations, recompute };
      const { layers } = plan(request);
      const frozen = [0, layers / 2, layers === 24 ? 22 : 29].map((freezeBelow) => plan({ ...request, freezeBelow }));
      results.push({
        name: known.name,
        batch,
        length,
        weights,
        activations,
        recompute,
        peakGigabytes: frozen.map(({ peakBytes }) => gigabytes(peakBytes)),
        bytes: frozen.map(({ bytes }) => bytes),
        moreFlops: share(frozen.map(({ flops }) => flops.recompute / (flops.forward + flops.backward))[0] ?? 0),
      });
    }
  }
  const where = provenance({ device: "none: computed", vendor: "", description: "none" });
  await writeFile("bench/results/plans.json", `${JSON.stringify({ ...where, results }, null, 1)}\n`);
  const table = markdown(results, await countedByPeft());
  await writeFile("bench/results/plans.md", `${heading(where.commit)}\n${table}\n${NOTES}`);
  console.log(table);
}

const gigabytes = (bytes: number): number => Number((bytes / 1e9).toFixed(2));
const share = (value: number): string => `${(100 * value).toFixed(0)} %`;

interface Result extends Way {
  readonly name: string;
  readonly peakGigabytes: readonly number[];
  readonly moreFlops: string;
}

function markdown(results: readonly Result[], peft: Awaited<ReturnType<typeof countedByPeft>>): string {
  const head = [
    "step",
    "frozen weights",
    "run again",
    "all live",
    "lower half frozen",
    "22 of 24 (29 of 32)",
    "more FLOPs",
  ];
  const line = (cells: readonly (string | number)[]): string => `| ${cells.join(" | ")} |`;
  const rows = KNOWN.flatMap(({ name, title, paper }) => [
    line([title, "", `the paper: ${paper}`, "", "", "", ""]),
    line(["", "", "PEFT, eager attention", ...peft(name, "eager"), ""]),
    line(["", "", "PEFT, fused attention", ...peft(name, "fused"), ""]),
    ...results
      .filter((result) => result.name === name)
      .map(({ weights, activations, recompute, peakGigabytes, moreFlops }) =>
        line([
          "",
          `${weights} / ${activations}`,
          `safetape: ${recompute}`,
          ...peakGigabytes.map((value) => value.toFixed(2)),
          moreFlops,
        ]),
      ),
  ]);
  return [line(head), line(head.map(() => "---")), ...rows].join("\n");
}

const heading = (commit: string): string => `# Planned memory at the papers' sizes

\`npm run bench:plans\`, commit ${commit}: no device, from \`bench/configs\` alone. LoRA of rank 4 on query and value (c_attn in
GPT-2), dropout of the configurations. "Weights / kept" are the formats of frozen weights and of kept activations. GB are
1e9 bytes. Ours are peaks of all GPU bytes: weights, adapters with gradients and moments, what is kept, scratch, read-back.
PEFT's rows are weights and saved tensors alone, without gradients, moments and scratch, counted by \`bench/peft-saved.py\`
on the meta device (LoRA with a dropout of 0.1; LLaMA in f16, adapters too); the paper's are what it measured.
`;

const NOTES = `
Where it comes from, for RoBERTa-large with all adapters live: PEFT with eager attention 16.8 GB; 7.5 GB of it are time x
time matrices that fused attention does not keep; another 1.6 GB is what a frozen base never needs (masks, the unscaled
inputs of norms, copies for two projections of one input). Freezing the lower half saves 3.0 GB of the 7.7, freezing 22 of 24
layers 5.6. Running feed-forwards again saves 2.3 GB for 15 % more FLOPs; whole layers, 5.2 GB for 47 %. Language models'
logits (0.8 GB in GPT-2 medium, twice in PEFT) are never whole.
`;

await plans();
