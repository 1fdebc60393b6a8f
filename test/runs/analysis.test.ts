import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import * as safetape from "safetape";
import type { Batch, Engine, LoadedModel, Subject } from "safetape";
import { hessianEigenvalues, hessianProduct } from "../../src/analysis/hessian";
import { LossSurface } from "../../src/analysis/loss-surface";
import { dot, norm } from "../../src/analysis/vector";
import { analyzeCommand } from "../../src/cli/analyze";
import { readFloatTensors } from "../../src/io/safetensors";
import exact from "../interop/hessian.json";
import { GOLDEN, goldenSubject } from "../support/golden-subject";

let engine: Engine;
let model: LoadedModel;
let subject: Subject;
let batches: Batch[];

beforeAll(async () => {
  engine = await safetape.createEngine();
  ({ subject, batches } = await goldenSubject(engine, exact.batches));
  ({ model } = subject);
});
afterAll(() => {
  model.dispose();
  engine.dispose();
});

/** Linear CKA in float64, rows that the mask counts, columns centred. */
function cka(x: Float32Array, y: Float32Array, mask: Int32Array): number {
  const width = x.length / mask.length;
  const rows = [...mask.keys()].filter((row) => mask[row] === 1);
  const centred = (all: Float32Array): number[][] =>
    Array.from({ length: width }, (_, column) => {
      const own = rows.map((row) => all[row * width + column]!);
      const mean = own.reduce((sum, value) => sum + value, 0) / own.length;
      return own.map((value) => value - mean);
    });
  const squares = (a: number[][], b: number[][]): number =>
    a.reduce((sum, p) => b.reduce((rest, q) => rest + p.reduce((s, value, i) => s + value * q[i]!, 0) ** 2, sum), 0);
  const [a, b] = [centred(x), centred(y)];
  return squares(a, b) / Math.sqrt(squares(a, a) * squares(b, b));
}

describe("analyses of a golden case", () => {
  it("take the exact Hessian's products, and tell how far an eigenvalue is at most", async () => {
    const live = engine.ledger.liveBytes;
    {
      using surface = await LossSurface.open(subject, { batches, over: "adapter", differentiable: true });
      const { loss, gradient } = await surface.gradient(surface.origin);
      expect(Math.abs(loss / exact.loss - 1)).toBeLessThan(5e-6);
      expect(Math.abs(norm(gradient) / exact.gradientNorm - 1)).toBeLessThan(1e-4);
      const multiply = hessianProduct(async (at) => (await surface.gradient(at)).gradient, surface.origin);
      const product = await multiply(gradient);
      const curvature = dot(gradient, product) / dot(gradient, gradient);
      expect(Math.abs(curvature / exact.curvatureAlongGradient - 1)).toBeLessThan(2e-3);
      expect(Math.abs(norm(product) / norm(gradient) / exact.stretchOfGradient - 1)).toBeLessThan(2e-3);
    }
    // All five, to a hundred thousandth: `npm run bench:hessian`.
    const { eigenvalues, parameters } = await hessianEigenvalues(subject, { batches, count: 1, maxSteps: 8 });
    expect(parameters).toBe(exact.parameters);
    const [{ value, residual } = { value: NaN, residual: NaN }] = eigenvalues;
    expect(Math.abs(Math.abs(value) - Math.abs(exact.eigenvalues[0]!))).toBeLessThanOrEqual(residual);
    expect(residual).toBeLessThan(0.3 * Math.abs(exact.eigenvalues[0]!));
    expect(engine.ledger.liveBytes).toBe(live);
  });

  it("compare layers with the original's, and with those of the last snapshot", async () => {
    const expected = await readFloatTensors(await safetape.openDirectory(GOLDEN), "expected.safetensors");
    const [probe] = batches as [Batch];
    const zero = new Map(
      [...subject.tensors].map(([name, tensor]) => [
        name,
        name.includes("lora_B") ? { ...tensor, data: new Float32Array(tensor.data.length) } : tensor,
      ]),
    );
    const snapshots = [
      { step: 0, tensors: subject.tensors },
      { step: 7, tensors: zero },
    ];
    const [start, end] = await safetape.compareLayers(subject, snapshots, { probe });
    const layers = Array.from({ length: 4 }, (_, layer) => layer);
    const wanted = layers.map((layer) =>
      cka(expected.get(`layer.${layer}`)!.data, expected.get(`origin.${layer}`)!.data, probe.attentionMask),
    );
    layers.forEach((layer) => {
      expect(wanted[layer]).toBeLessThan(0.99999);
      expect(Math.abs(start!.original[layer]! - wanted[layer]!)).toBeLessThan(2e-5);
      // Without B, LoRA changes nothing: the last snapshot is the original model.
      expect(Math.abs(start!.final[layer]! - wanted[layer]!)).toBeLessThan(2e-5);
      expect(Math.abs(end!.original[layer]! - 1)).toBeLessThan(1e-5);
      expect(Math.abs(end!.final[layer]! - 1)).toBeLessThan(1e-5);
    });
    expect(end!.step).toBe(7);
  });

  it("leave a trainer beside them as it was, frozen tensors too", async () => {
    let next = 0;
    using trainer = await safetape.Trainer.create({
      model,
      adapter: subject.adapter,
      steps: 2,
      initial: subject.tensors,
      dropout: false,
      data: { perEpoch: 2, next: () => batches[next++ % batches.length]! },
      policy: safetape.fixed([{ beforeStep: 1, tensors: ["layer.0."] }]),
    });
    const similarity = await safetape.layerSimilarity(trainer, { every: 1 });
    expect(similarity.map(({ step }) => step)).toEqual([0, 1, 2]);
    expect(similarity[0]!.final[3]).toBeLessThan(similarity[1]!.final[3]!);
    const before = await trainer.state.snapshot();
    const live = engine.ledger.liveBytes;
    const own = await safetape.subjectOf(trainer);
    const plane = await safetape.lossLandscape(own, { batches, points: 3, span: 0.5 });
    const spectrum = await hessianEigenvalues(own, { batches, count: 1, maxSteps: 2 });
    expect(spectrum.parameters, "frozen tensors are moved as well").toBe(exact.parameters);
    expect(engine.ledger.liveBytes).toBe(live);
    for (const [name, { data }] of await trainer.state.snapshot()) expect(data, name).toEqual(before.get(name)!.data);
    const { loss } = await trainer.evaluate(batches);
    expect(plane.centre).toBeCloseTo(loss, 6);
    expect(plane.losses[1]![1]).toBe(plane.centre);
    expect(plane.losses[0]![0]).not.toBe(plane.centre);
  });
});

describe("safetape analyze", () => {
  let folder: string;
  beforeAll(async () => {
    folder = mkdtempSync(join(tmpdir(), "safetape-analyze-"));
    const sizes = { hidden_size: 16, num_hidden_layers: 2, num_attention_heads: 2, intermediate_size: 16 };
    const config = { model_type: "bert", vocab_size: 255, max_position_embeddings: 16, num_labels: 2, ...sizes };
    using tiny = await safetape.initialiseModel(engine, config);
    await safetape.saveModel(await safetape.openDirectory(join(folder, "model"), { create: true }), tiny);
    for (const file of ["tokenizer.json", "tokenizer_config.json"]) {
      writeFileSync(join(folder, "model", file), readFileSync(`examples/model/${file}`));
    }
    for (const file of ["train.tsv", "dev.tsv"]) {
      const lines = readFileSync(`examples/data/sentiment/${file}`, "utf8").split("\n");
      writeFileSync(join(folder, file), `${lines.slice(0, 9).join("\n")}\n`);
    }
  });
  afterAll(() => rmSync(folder, { recursive: true, force: true }));

  const run = async (what: string, more: Record<string, unknown>): Promise<Record<string, unknown>> => {
    const told: string[] = [];
    const given = {
      model: join(folder, "model"),
      data: folder,
      task: "sst2",
      batch: 4,
      maxLength: 16,
      steps: 2,
      rank: 2,
    };
    await analyzeCommand(what, { ...given, json: true, quiet: true, ...more }, (line) => told.push(line));
    return JSON.parse(told.at(-1)!) as Record<string, unknown>;
  };
  const pictures = (out: string, name: string): string[] =>
    readdirSync(out).filter((file) => file.startsWith(`${name}.`));

  it("runs single layers, and after an interruption only those that are missing", async () => {
    const out = join(folder, "contribution");
    const first = (await run("contribution", { out })) as { runs: { layer?: number; peakBytes: number }[] };
    expect(first.runs.map(({ layer }) => layer)).toEqual([undefined, 0, 1]);
    const [all, lower, upper] = first.runs.map(({ peakBytes }) => peakBytes) as [number, number, number];
    expect(upper).toBeLessThan(lower);
    expect(lower).toBeLessThan(all);
    const kept = readFileSync(join(out, "layer-0.json"), "utf8");
    rmSync(join(out, "layer-1.json"));
    writeFileSync(join(out, "all-layers.json"), JSON.stringify({ ...JSON.parse(kept), settings: {} }));
    const second = (await run("contribution", { out })) as { runs: { layer?: number; seconds: number }[] };
    expect(readFileSync(join(out, "layer-0.json"), "utf8")).toBe(kept);
    expect(second.runs[1]).toEqual(first.runs[1]);
    expect(
      second.runs.map(({ layer }) => layer),
      "other settings are run anew",
    ).toEqual([undefined, 0, 1]);
    expect(pictures(out, "contribution")).toEqual(["contribution.csv", "contribution.json", "contribution.svg"]);
  });

  it("compares LoRA with a policy, then saved adapters, and draws", async () => {
    const [out, later] = [join(folder, "landscape"), join(folder, "hessian")];
    const freeze = `{"policy": "fixed", "freezes": [{"beforeStep": 1, "tensors": ["layer.0."]}]}`;
    const planes = (await run("landscape", { out, freeze, points: 3, batches: 1, png: true })) as {
      planes: { name: string }[];
    };
    expect(planes.planes.map(({ name }) => name)).toEqual(["lora", "lora+fixed"]);
    expect(pictures(out, "landscape")).toHaveLength(4);
    const saved = `${join(out, "lora")},${join(out, "lora+fixed")}`;
    const { spectra } = (await run("hessian", { out: later, saved, count: 2, maxProducts: 3, batches: 1 })) as {
      spectra: { result: { eigenvalues: unknown[] } }[];
    };
    expect(spectra.map(({ result }) => result.eigenvalues.length)).toEqual([2, 2]);
    const svg = readFileSync(join(later, "hessian.svg"), "utf8");
    expect(svg).toMatch(/<svg [^>]*xmlns/);
    expect(svg).toContain("eigenvalue of the loss");
  });

  it("refuses an analysis that there is not", async () => {
    await expect(run("entropy", {})).rejects.toThrow(/no analysis entropy/);
  });
});
