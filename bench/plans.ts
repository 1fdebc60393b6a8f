import { readFile, writeFile } from "node:fs/promises";
import { lora } from "../src/adapter/lora";
import type { WeightFormat } from "../src/base/packed";
import type { ActivationFormat } from "../src/op/pack";
import { plan } from "../src/train/estimate/predict";
import type { Recompute } from "../src/train/options";
import { provenance } from "../scripts/provenance.mjs";
import { readConfig } from "./support/model";

/** How a step saves memory: formats of fewer bits, and recomputation. */
interface Savings {
  readonly weights: WeightFormat;
  readonly activations: ActivationFormat;
  readonly recompute: Recompute;
}

/** A training step of the SAFE paper. */
interface PaperStep {
  readonly name: string;
  readonly title: string;
  readonly config: string;
  readonly batch: number;
  readonly length: number;
  /** Measured GB in the paper (arXiv 2412.03587): LoRA -> SAFE. */
  readonly paper: string;
  readonly ours: readonly Savings[];
}

const SAVINGS: readonly Savings[] = [
  { weights: "f32", activations: "f32", recompute: "none" },
  { weights: "f32", activations: "f32", recompute: "mlp" },
  { weights: "f32", activations: "f32", recompute: "layers" },
  { weights: "f16", activations: "f32", recompute: "none" },
  { weights: "f16", activations: "f16", recompute: "none" },
  { weights: "nf4", activations: "f32", recompute: "layers" },
];

const PAPER_STEPS: readonly PaperStep[] = [
  {
    name: "bert-large",
    title: "BERT-large, 32 x 128",
    config: "bert-large",
    batch: 32,
    length: 128,
    paper: "20.35 -> 12.11",
    ours: SAVINGS,
  },
  {
    name: "roberta-large",
    title: "RoBERTa-large, 16 x 384",
    config: "roberta-large",
    batch: 16,
    length: 384,
    paper: "17.73 -> 3.56",
    ours: SAVINGS,
  },
  {
    name: "gpt2-medium",
    title: "GPT-2 medium, 8 x 512",
    config: "gpt2-medium",
    batch: 8,
    length: 512,
    paper: "16.97 -> 11.90 (mean of its tasks)",
    ours: SAVINGS,
  },
  {
    name: "llama-2-7b",
    title: "LLaMA-2 7B, 2 x 512",
    config: "llama-2-7b",
    batch: 2,
    length: 512,
    paper: "66.35 -> 34.20",
    ours: SAVINGS.slice(3),
  },
];

/** A row of `bench/peft-saved.py`: bytes for one model, kind of attention and number of frozen layers. */
interface PeftRow {
  readonly name: string;
  readonly dtype: string;
  readonly adapterDtype: string;
  readonly attention: "eager" | "fused";
  readonly frozenLayers: number;
  readonly weightBytes: number;
  readonly savedBytes: number | null;
}

/** Looks up PEFT's weights and saved tensors in GB, with adapters in the base's type, by ascending number of frozen layers. */
async function readPeft(): Promise<(name: string, attention: PeftRow["attention"]) => string[]> {
  // Written by bench/peft-saved.py.
  const file = JSON.parse(await readFile("bench/results/peft-saved.json", "utf8")) as { results: PeftRow[] };
  return (name, attention) =>
    file.results
      .filter((row) => row.name === name && row.attention === attention && row.adapterDtype === row.dtype)
      .sort((a, b) => a.frozenLayers - b.frozenLayers)
      .map(({ weightBytes, savedBytes }) =>
        savedBytes === null ? "?" : ((weightBytes + savedBytes) / 1e9).toFixed(2),
      );
}

/** Plans LoRA steps of the papers' sizes from configurations alone, and tabulates peaks in GB with the papers' and PEFT's. */
export async function plans(): Promise<void> {
  const results = [];
  for (const { name, config: file, batch, length, ours } of PAPER_STEPS) {
    const config = await readConfig(`bench/configs/${file}.json`);
    for (const { weights, activations, recompute } of ours) {
      const request = { config, adapter: lora({ rank: 4 }), batch, length, weights, activations, recompute };
      const { layers } = plan(request);
      const frozen = [0, layers / 2, layers === 24 ? 22 : 29].map((freezeBelow) => plan({ ...request, freezeBelow }));
      results.push({
        name,
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
  const origin = provenance({ device: "none: computed", vendor: "", description: "none" });
  await writeFile("bench/results/plans.json", `${JSON.stringify({ ...origin, results }, null, 1)}\n`);
  const table = markdown(results, await readPeft());
  await writeFile("bench/results/plans.md", `${heading(origin.commit)}\n${table}\n${NOTES}`);
  console.log(table);
}

const gigabytes = (bytes: number): number => Number((bytes / 1e9).toFixed(2));
const share = (value: number): string => `${(100 * value).toFixed(0)} %`;

interface Result extends Savings {
  readonly name: string;
  readonly peakGigabytes: readonly number[];
  readonly moreFlops: string;
}

function markdown(results: readonly Result[], peft: Awaited<ReturnType<typeof readPeft>>): string {
  const head = [
    "step",
    "weights / saved",
    "recomputed",
    "all live",
    "lower half frozen",
    "22 of 24 (29 of 32)",
    "more FLOPs",
  ];
  const line = (cells: readonly (string | number)[]): string => `| ${cells.join(" | ")} |`;
  const rows = PAPER_STEPS.flatMap(({ name, title, paper }) => [
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
GPT-2), dropout of the configurations. "Weights / saved" are the formats of frozen weights and of saved activations. GB are
1e9 bytes. Ours are peaks of all GPU bytes: weights, adapters with gradients and moments, saved activations, scratch and
readback. PEFT's rows are weights and saved tensors alone, without gradients, moments and scratch, counted by
\`bench/peft-saved.py\` on the meta device (LoRA with a dropout of 0.1; LLaMA in f16, including its adapters). The paper's
numbers are measurements.
`;

const NOTES = `
The savings for RoBERTa-large with all adapters live: PEFT with eager attention takes 16.8 GB. Of these, 7.5 GB are time x
time matrices, which fused attention does not save, and 1.6 GB are not needed with a frozen base (masks, the unscaled inputs
of norms, copies for two projections of one input). Freezing the lower half saves 3.0 GB of the remaining 7.7, freezing 22 of
24 layers saves 5.6. Recomputing feed-forwards saves 2.3 GB for 15 % more FLOPs; recomputing complete layers saves 5.2 GB for
47 %. A language model's logits (0.8 GB in GPT-2 medium, twice that in PEFT) are never stored at once.
`;

await plans();
