import { readFile, writeFile } from "node:fs/promises";
import { lora } from "../src/adapter/lora";
import type { WeightFormat } from "../src/base/packed";
import type { Bytes } from "../src/gpu/ledger";
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

/** A training step. */
interface Step {
  readonly name: string;
  readonly title: string;
  readonly batch: number;
  /** Tokens of a text, and of the text to write; an image model's own number. */
  readonly length?: number;
  /** Measured GB in the SAFE paper (arXiv 2412.03587): LoRA -> SAFE. */
  readonly paper?: string;
  /** Layers above those that are frozen in the last column. */
  readonly live: number;
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
/** f32 throughout, 16 bits throughout, and the fewest bytes. */
const FEWER_SAVINGS = SAVINGS.filter((_, index) => [0, 4, 5].includes(index));

const PAPER = { live: 2, ours: SAVINGS };
const FURTHER = { live: 2, ours: FEWER_SAVINGS };

const STEPS: readonly Step[] = [
  { ...PAPER, name: "bert-large", title: "BERT-large, 32 x 128", batch: 32, length: 128, paper: "20.35 -> 12.11" },
  { ...PAPER, name: "roberta-large", title: "RoBERTa-large, 16 x 384", batch: 16, length: 384, paper: "17.73 -> 3.56" },
  {
    ...PAPER,
    name: "gpt2-medium",
    title: "GPT-2 medium, 8 x 512",
    batch: 8,
    length: 512,
    paper: "16.97 -> 11.90 (mean of its tasks)",
  },
  {
    name: "llama-2-7b",
    title: "LLaMA-2 7B, 2 x 512",
    batch: 2,
    length: 512,
    paper: "66.35 -> 34.20",
    live: 3,
    ours: SAVINGS.slice(3),
  },
  { ...FURTHER, name: "llama-3.2-1b", title: "LLaMA-3.2 1B, 8 x 512", batch: 8, length: 512 },
  { ...FURTHER, name: "qwen3-0.6b", title: "Qwen3 0.6B, 8 x 512", batch: 8, length: 512 },
  { ...FURTHER, name: "qwen3-1.7b", title: "Qwen3 1.7B, 8 x 512", batch: 8, length: 512 },
  { ...FURTHER, name: "gemma-3-270m", title: "Gemma 3 270M, 8 x 512", batch: 8, length: 512 },
  { ...FURTHER, name: "gemma-3-1b", title: "Gemma 3 1B, 8 x 512", batch: 8, length: 512 },
  { ...FURTHER, name: "flan-t5-base", title: "FLAN-T5-base, 16 x 128", batch: 16, length: 128 },
  { ...FURTHER, name: "flan-t5-xl", title: "FLAN-T5-XL, 16 x 128", batch: 16, length: 128 },
  { ...FURTHER, name: "deberta-v3-base", title: "DeBERTaV3-base, 32 x 128", batch: 32, length: 128 },
  { ...FURTHER, name: "modernbert-base", title: "ModernBERT-base, 32 x 128", batch: 32, length: 128 },
  { ...FURTHER, name: "swin-base", title: "Swin-base, 32 images", batch: 32 },
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

/** PEFT's rows of a model, with adapters in the base's type, by ascending number of frozen layers. */
async function readPeft(): Promise<(name: string, attention: PeftRow["attention"], dtype: string) => PeftRow[]> {
  // Written by bench/peft-saved.py.
  const file = JSON.parse(await readFile("bench/results/peft-saved.json", "utf8")) as { results: PeftRow[] };
  return (name, attention, dtype) =>
    file.results
      .filter((row) => row.name === name && row.attention === attention)
      .filter((row) => row.dtype === dtype && row.adapterDtype === dtype)
      .sort((a, b) => a.frozenLayers - b.frozenLayers);
}

/**
 * Plans LoRA steps from configurations alone, and tabulates peaks in GB with the papers' and PEFT's.
 * @throws Error where a step would keep more activations than PEFT's.
 */
export async function plans(): Promise<void> {
  const results = [];
  const peft = await readPeft();
  for (const { name, batch, length, live, ours } of STEPS) {
    const config = await readConfig(`bench/configs/${name}.json`);
    for (const { weights, activations, recompute } of ours) {
      const adapter = lora({ rank: 4, dropout: 0.1 });
      const workload = { config, adapter, batch, ...(length !== undefined && { length }) };
      const request = { ...workload, weights, memory: { activations, recompute } };
      const { layers } = plan(request);
      const frozen = [0, layers / 2, layers - live].map((freezeBelow) => plan({ ...request, freezeBelow }));
      results.push({
        name,
        batch,
        length: length ?? null,
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
  const table = markdown(results, peft);
  await writeFile("bench/results/plans.md", `${heading(origin.commit)}\n${table}\n${NOTES}`);
  console.log(table);
  const more = results.flatMap((result) => keepsMore(result, peft));
  if (more.length > 0) throw new Error(`More is kept than by PEFT: ${more.join("; ")}.`);
}

/** Where a step without recomputation keeps more than PEFT with the better of its attentions, in the same formats. */
function keepsMore({ name, weights, activations, recompute, bytes }: Result, peft: PeftRows): string[] {
  const dtype = weights === "f32" ? "float32" : "float16";
  if (recompute !== "none" || weights !== activations) return [];
  return bytes.flatMap(({ saved }, index) => {
    const theirs = (["eager", "fused"] as const).map(
      (attention) => peft(name, attention, dtype)[index]?.savedBytes ?? Infinity,
    );
    const isMore = saved > Math.min(...theirs);
    return isMore ? [`${name} in ${weights}, column ${index}: ${saved} bytes, PEFT ${theirs.join(", ")}`] : [];
  });
}

type PeftRows = Awaited<ReturnType<typeof readPeft>>;

const gigabytes = (bytes: number): number => Number((bytes / 1e9).toFixed(2));
const share = (value: number): string => `${(100 * value).toFixed(0)} %`;

interface Result extends Savings {
  readonly name: string;
  readonly peakGigabytes: readonly number[];
  readonly bytes: readonly Bytes[];
  readonly moreFlops: string;
}

const DTYPES = [
  ["float32", "f32"],
  ["float16", "f16"],
] as const;

function markdown(results: readonly Result[], peft: PeftRows): string {
  const head = [
    "step",
    "weights / saved",
    "recomputed",
    "all live",
    "lower half frozen",
    "all but the top two frozen (LLaMA-2: three)",
    "more FLOPs",
  ];
  const line = (cells: readonly (string | number)[]): string => `| ${cells.join(" | ")} |`;
  const peftRows = (name: string): string[] =>
    DTYPES.flatMap(([dtype, format]) =>
      (["eager", "fused"] as const).flatMap((attention) => {
        const rows = peft(name, attention, dtype);
        const cells = rows.map(({ weightBytes, savedBytes }) =>
          savedBytes === null ? "?" : pair(weightBytes, savedBytes),
        );
        return rows.length > 0
          ? [line(["", `${format} / ${format}`, `PEFT, ${attention} attention`, ...cells, ""])]
          : [];
      }),
    );
  const rows = STEPS.flatMap(({ name, title, paper }) => [
    line([title, "", paper === undefined ? "" : `the paper: ${paper}`, "", "", "", ""]),
    ...peftRows(name),
    ...results
      .filter((result) => result.name === name)
      .map(({ weights, activations, recompute, peakGigabytes, bytes, moreFlops }) =>
        line([
          "",
          `${weights} / ${activations}`,
          `safetape: ${recompute}`,
          ...peakGigabytes.map((value, i) => `${value.toFixed(2)} (${pair(bytes[i]!.weight, bytes[i]!.saved)})`),
          moreFlops,
        ]),
      ),
  ]);
  return [line(head), line(head.map(() => "---")), ...rows].join("\n");
}

/** Weights and saved activations in GB. */
const pair = (weights: number, saved: number): string =>
  [weights, saved].map((bytes) => (bytes / 1e9).toFixed(2)).join(" + ");

const heading = (commit: string): string => `# Planned memory at usual sizes

\`npm run bench:plans\`, commit ${commit}: no device, from \`bench/configs\` alone. LoRA of rank 4 with a dropout of 0.1 on query
and value (c_attn in GPT-2, Wqkv in ModernBERT), other dropouts as configured; in an encoder-decoder the lower half is the
encoder, and texts to write are as long as those to read. "Weights / saved" are the formats of frozen weights and of saved
activations. GB are 1e9 bytes. Ours are peaks of all GPU bytes, which are weights, adapters with gradients and moments, saved
activations, scratch and readback, and in brackets weights + saved activations alone. PEFT's rows are weights + saved tensors
alone, without gradients, moments and scratch, counted by \`bench/peft-saved.py\` on the meta device (in f16 with adapters in
f16, the fewest bytes; by default PEFT keeps them in f32). "Fused" is flash attention in f16, and memory-efficient attention in
f32 and where there is a bias (T5, Swin); transformers' DeBERTa has neither. The command fails where a step of ours keeps more
than PEFT's with the better attention in the same formats. The papers' numbers are measurements.
`;

const NOTES = `
The savings for RoBERTa-large with all adapters live: PEFT with eager attention takes 16.8 GB. Of these, 7.5 GB are time x
time matrices, which fused attention does not save, and 1.6 GB are not needed with a frozen base (masks, the unscaled inputs
of norms, copies for two projections of one input). Freezing the lower half saves 3.0 GB of the remaining 7.7, freezing 22 of
24 layers saves 5.6. Recomputing feed-forwards saves 2.3 GB for 15 % more FLOPs; recomputing complete layers saves 5.2 GB for
47 %. A language model's logits (0.8 GB in GPT-2 medium, twice that in PEFT; 4.3 GB in Gemma 3) are never stored at once.
transformers 5 ties FLAN-T5's last projection to its embeddings, so that PEFT's weights lack the one of the checkpoint.
`;

await plans();
