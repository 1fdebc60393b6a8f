import { readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { afterAll, beforeAll, describe, expect, it, vi } from "vitest";
import { fixed, openDirectory, Trainer } from "safetape";
import { compareLayers, layerSimilarity, lossLandscape, subjectOf } from "safetape/analysis";
import { hessianEigenvalues, hessianProduct } from "../../src/analysis/hessian";
import { LossSurface } from "../../src/analysis/loss-surface";
import { dot, norm } from "../../src/analysis/vector";
import { AnalysisSession } from "../../src/cli/analysis/session";
import { analyzeCommand } from "../../src/cli/analyze";
import { ANALYZE } from "../../src/cli/flags";
import { readOptions } from "../../src/cli/options";
import { readFloatTensors } from "../../src/io/safetensors";
import exact from "../interop/hessian.json";
import { useEngine } from "../support/engine";
import { failure } from "../support/failure";
import { useSharedFolder } from "../support/folder";
import { GOLDEN, goldenSubject } from "../support/golden-subject";
import { parseJson } from "../support/json";
import { TOKENIZERS, writeModel, writeSentiment } from "../support/model-folder";
import { layerCount, tiny } from "../support/tiny";
import type { Config } from "../support/tiny";
import { itLong } from "../support/long";

const engine = await useEngine();
const { subject, batches } = await goldenSubject(engine, exact.batches);
const { model } = subject;
afterAll(() => model.dispose());

/** Linear CKA in float64, of the rows whose mask is 1, with centred columns. */
function cka(x: Float32Array, y: Float32Array, mask: Int32Array): number {
  const width = x.length / mask.length;
  const rows = [...mask.keys()].filter((row) => mask[row] === 1);
  const centred = (matrix: Float32Array): number[][] =>
    Array.from({ length: width }, (_, column) => {
      const values = rows.map((row) => matrix[row * width + column]!);
      const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
      return values.map((value) => value - mean);
    });
  const squares = (a: number[][], b: number[][]): number =>
    a.flatMap((p) => b.map((q) => dot(p, q) ** 2)).reduce((sum, square) => sum + square, 0);
  const [a, b] = [centred(x), centred(y)];
  return squares(a, b) / Math.sqrt(squares(a, a) * squares(b, b));
}

describe("analyses of a golden case", () => {
  it("give the products of the exact Hessian, and a residual that bounds the error of an eigenvalue", async () => {
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
    // `npm run bench:hessian` compares all five, with a tolerance of 1e-5.
    const { eigenvalues, parameters } = await hessianEigenvalues(subject, { batches, count: 1, maxSteps: 8 });
    expect(parameters).toBe(exact.parameters);
    const { value, residual } = eigenvalues[0]!;
    expect(Math.abs(Math.abs(value) - Math.abs(exact.eigenvalues[0]!))).toBeLessThanOrEqual(residual);
    expect(residual).toBeLessThan(0.3 * Math.abs(exact.eigenvalues[0]!));
    expect(engine.ledger.liveBytes).toBe(live);
  });

  it("compare layers with those of the original model and of the last snapshot", async () => {
    const expected = await readFloatTensors(await openDirectory(GOLDEN), "expected.safetensors");
    const probe = batches[0]!;
    const withoutB = new Map(
      [...subject.tensors].map(([name, tensor]) => [
        name,
        name.includes("lora_B") ? { ...tensor, data: new Float32Array(tensor.data.length) } : tensor,
      ]),
    );
    const snapshots = [
      { step: 0, tensors: subject.tensors },
      { step: 7, tensors: withoutB },
    ];
    const [start, end] = await compareLayers(subject, snapshots, { probe });
    const layers = [0, 1, 2, 3];
    const similarity = layers.map((layer) =>
      cka(expected.get(`layer.${layer}`)!.data, expected.get(`origin.${layer}`)!.data, probe.attentionMask),
    );
    layers.forEach((layer) => {
      expect(similarity[layer]).toBeLessThan(0.99999);
      expect(Math.abs(start!.original[layer]! - similarity[layer]!)).toBeLessThan(2e-5);
      // Where B is 0, LoRA changes nothing: the last snapshot is the original model.
      expect(Math.abs(start!.final[layer]! - similarity[layer]!)).toBeLessThan(2e-5);
      expect(Math.abs(end!.original[layer]! - 1)).toBeLessThan(1e-5);
      expect(Math.abs(end!.final[layer]! - 1)).toBeLessThan(1e-5);
    });
    expect(end!.step).toBe(7);
  });

  it("leave a trainer unchanged, frozen tensors included", async () => {
    let next = 0;
    using trainer = await Trainer.create({
      model,
      adapter: subject.adapter,
      steps: 2,
      initial: subject.tensors,
      dropout: false,
      data: { perEpoch: 2, next: () => batches[next++ % batches.length]! },
      policy: fixed([{ beforeStep: 1, tensors: ["layer.0."] }]),
    });
    const similarity = await layerSimilarity(trainer, { every: 1 });
    expect(similarity.map(({ step }) => step)).toEqual([0, 1, 2]);
    expect(similarity[0]!.final[3]).toBeLessThan(similarity[1]!.final[3]!);
    const before = await trainer.state.snapshot();
    const live = engine.ledger.liveBytes;
    const trained = await subjectOf(trainer);
    const plane = await lossLandscape(trained, { batches, points: 3, span: 0.5 });
    const spectrum = await hessianEigenvalues(trained, { batches, count: 1, maxSteps: 2 });
    expect(spectrum.parameters, "frozen tensors count").toBe(exact.parameters);
    expect(engine.ledger.liveBytes).toBe(live);
    for (const [name, { data }] of await trainer.state.snapshot()) expect(data, name).toEqual(before.get(name)!.data);
    const { loss } = await trainer.evaluate(batches);
    expect(plane.centre).toBeCloseTo(loss, 6);
    expect(plane.losses[1]![1]).toBe(plane.centre);
    expect(plane.losses[0]![0]).not.toBe(plane.centre);
  });
});

describe("safetape analyze", () => {
  const path = useSharedFolder();
  beforeAll(async () => {
    const config = tiny.bert({ ...layerCount(2), vocab_size: 255 });
    await writeModel(path("model"), config, { tokenizer: TOKENIZERS.example });
    writeSentiment(path(), 8);
  });

  const run = async <T extends Config>(analysis: string, options: Config): Promise<T> => {
    const lines: string[] = [];
    const size = { batch: 4, maxLength: 16, steps: 2, rank: 2 };
    const settings = { model: path("model"), data: path(), task: "sst2", ...size, json: true, quiet: true, ...options };
    await analyzeCommand(analysis, settings, (line) => lines.push(line));
    return parseJson<T>(lines.at(-1)!);
  };
  const pictures = (out: string, name: string): string[] =>
    readdirSync(out).filter((file) => file.startsWith(`${name}.`));

  it("says that the package for pictures is missing before it trains", async () => {
    vi.doMock("@resvg/resvg-js", () => {
      throw new Error("Cannot find package '@resvg/resvg-js'");
    });
    const error = await failure(run("similarity", { out: path("pictures"), model: path("nowhere"), png: true }));
    vi.doUnmock("@resvg/resvg-js");
    expect(error.message).toMatch(/@resvg\/resvg-js.*\n.*npm install/);
  });

  it("contribution trains single layers, and after an interruption only those that are missing", async () => {
    const out = path("contribution");
    interface Contribution extends Config {
      readonly runs: readonly { readonly layer?: number; readonly peakBytes: number }[];
    }
    const first = await run<Contribution>("contribution", { out });
    expect(first.runs.map(({ layer }) => layer)).toEqual([undefined, 0, 1]);
    const [all, lower, upper] = first.runs.map(({ peakBytes }) => peakBytes);
    expect(upper).toBeLessThan(lower!);
    expect(lower).toBeLessThan(all!);
    const finished = path("contribution", "layer-0.json");
    const text = readFileSync(finished, "utf8");
    rmSync(path("contribution", "layer-1.json"));
    const otherSettings = { ...parseJson<Config>(text), settings: {} };
    writeFileSync(path("contribution", "all-layers.json"), JSON.stringify(otherSettings));
    const second = await run<Contribution>("contribution", { out });
    expect(readFileSync(finished, "utf8")).toBe(text);
    expect(second.runs[1]).toEqual(first.runs[1]);
    const layers = second.runs.map(({ layer }) => layer);
    expect(layers, "a run with other settings is repeated").toEqual([undefined, 0, 1]);
    expect(pictures(out, "contribution")).toEqual(["contribution.csv", "contribution.json", "contribution.svg"]);
  });

  itLong("landscape compares LoRA with a policy, and hessian compares the saved adapters", async () => {
    const [out, later] = [path("landscape"), path("hessian")];
    const freeze = `{"policy": "fixed", "freezes": [{"beforeStep": 1, "tensors": ["layer.0."]}]}`;
    interface Landscape extends Config {
      readonly planes: readonly { readonly name: string }[];
    }
    const { planes } = await run<Landscape>("landscape", { out, freeze, points: 3, batches: 1, png: true });
    expect(planes.map(({ name }) => name)).toEqual(["lora", "lora+fixed"]);
    expect(pictures(out, "landscape")).toHaveLength(4);
    interface Spectra extends Config {
      readonly spectra: readonly { readonly result: { readonly eigenvalues: readonly unknown[] } }[];
    }
    const saved = [path("landscape", "lora"), path("landscape", "lora+fixed")].join();
    const size = { count: 2, maxProducts: 3, batches: 1 };
    const { spectra } = await run<Spectra>("hessian", { out: later, saved, ...size });
    expect(spectra.map(({ result }) => result.eigenvalues.length)).toEqual([2, 2]);
    const svg = readFileSync(path("hessian", "hessian.svg"), "utf8");
    expect(svg).toMatch(/<svg [^>]*xmlns/);
    expect(svg).toContain("eigenvalue of the loss");
  });

  itLong("sensitivity trains once for each sensitivity, and tells when each matrix froze", async () => {
    interface Runs extends Config {
      readonly runs: readonly { readonly sensitivity: string; readonly frozen: readonly { readonly step: number }[] }[];
    }
    const freeze = `{"policy": "aflora", "initialEpochs": 0, "finalShare": 0, "simultaneous": true}`;
    const { runs } = await run<Runs>("sensitivity", { out: path("sensitivity"), adapter: "aflora", freeze });
    expect(runs.map(({ sensitivity }) => sensitivity)).toEqual([
      "gradient",
      "weight_gradient",
      "gradient_over_weight",
      "weight",
    ]);
    // Two modules of each of two layers have matrices that learn: floor(4 * 0.875) = 3 of them freeze after the first of two
    // steps, and the last one after the second.
    for (const { frozen } of runs) expect(frozen.map(({ step }) => step)).toEqual([1, 1, 1, 1, 1, 1, 2, 2]);
    expect(pictures(path("sensitivity"), "sensitivity")).toHaveLength(3);
    const other = run("sensitivity", { out: path("sensitivity"), freeze: "safe" });
    expect((await failure(other)).message).toMatch(/safe, which does not freeze by sensitivity/);
  });

  it("scores layers on as many training batches as --probe-batches says", async () => {
    const flags = { model: path("model"), data: path(), task: "sst2", out: path("probe"), batch: 4, maxLength: 16 };
    using session = await AnalysisSession.open(readOptions(ANALYZE, { ...flags, quiet: true, probeBatches: 2 }));
    const source = session.trainingData();
    expect(session.training.probe).toEqual([source.next(), source.next()]);
  });

  it("refuses an unknown analysis", async () => {
    expect((await failure(run("entropy", {}))).message).toMatch(/no analysis entropy/);
  });
});
