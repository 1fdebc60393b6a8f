import { describe, expect, it } from "vitest";
import { adapterDrop, afloraFreezing, freezeToFit, safe } from "safetape";
import { freezeSchedule } from "safetape/analysis";
import { Random } from "../../src/base/random";
import { hessianProduct, spectrumOf } from "../../src/analysis/hessian";
import { filterDirections, lossPlane, randomDirections } from "../../src/analysis/landscape";
import { dot, norm, VectorLayout } from "../../src/analysis/vector";
import { cubicThreshold } from "../../src/freeze/safe-schedule";

const SIZE = 40;
const normals = (count: number, seed: number): Float64Array => {
  const random = new Random(seed);
  return Float64Array.from({ length: count }, () => random.normal());
};

/** x -> Q diag(values) Q x, with Q = I - 2 u u^T / u^T u: a full symmetric matrix of known eigenvalues. */
function symmetric(values: readonly number[]): (x: ArrayLike<number>) => Float64Array {
  const u = normals(values.length, 3);
  const reflect = (x: ArrayLike<number>): Float64Array => {
    const share = (2 * dot(u, x)) / dot(u, u);
    return Float64Array.from(x, (value, i) => value - share * u[i]!);
  };
  return (x) => reflect(reflect(x).map((value, i) => value * values[i]!));
}

describe("the Hessian's largest eigenvalues", () => {
  const largest = [-30, 20, 11, 7.5, 5];
  const values = [...largest, ...Array.from({ length: SIZE - largest.length }, (_, i) => 2 * Math.sin(i))];
  const at = Float32Array.from(normals(SIZE, 5));

  it("are those of a quadratic, whatever their sign", async () => {
    const apply = symmetric(values);
    const progress: number[] = [];
    const spectrum = await spectrumOf((w) => Promise.resolve(apply(w)), at, {
      onProgress: (done, total) => progress.push(done / total),
    });
    spectrum.eigenvalues.forEach(({ value, residual }, i) => {
      expect(Math.abs(value / largest[i]! - 1)).toBeLessThan(1e-3);
      expect(Math.abs(value - largest[i]!)).toBeLessThanOrEqual(1.5 * residual);
    });
    expect(spectrum).toMatchObject({ parameters: SIZE, gradients: 2 * (spectrum.steps + 5) });
    expect(spectrum.steps).toBeLessThan(SIZE);
    expect(spectrum.asymmetry).toBeLessThan(1e-3);
    expect(progress.at(-1)).toBe(1);
    expect(progress.toSorted((a, b) => a - b)).toEqual(progress);
  });

  it("are repeated as often as they occur, where there are no others", async () => {
    const { eigenvalues } = await spectrumOf((w) => Promise.resolve(w.map((x) => 3 * x)), at, {});
    expect(eigenvalues).toHaveLength(5);
    for (const { value } of eigenvalues) expect(value).toBeCloseTo(3, 3);
  });

  it("are those of a classifier with a known Hessian, with an error bounded by the residual", async () => {
    const { gradient, hessian, size } = softmaxRegression();
    const start = Float32Array.from(normals(size, 9));
    const exact = await spectrumOf((x) => Promise.resolve(hessian(start, x)), new Float32Array(size), {
      tolerance: 1e-9,
      maxSteps: size,
    });
    const spectrum = await spectrumOf((w) => Promise.resolve(gradient(w)), start, { maxSteps: size });
    expect(exact.eigenvalues[0]!.value).toBeGreaterThan(0.1);
    spectrum.eigenvalues.forEach(({ value, residual }, i) => {
      const error = Math.abs(value - exact.eigenvalues[i]!.value);
      expect(error).toBeLessThan(1e-3 * exact.eigenvalues[0]!.value);
      expect(error).toBeLessThanOrEqual(residual + 1e-4);
    });
  });

  it("use products whose error falls with the square of the step", async () => {
    // f = sum w^4 / 4: the third derivative is 6 w, so that differences are off by h^2 v^3.
    const cubes = (w: Float32Array): Promise<Float64Array> => Promise.resolve(Float64Array.from(w, (x) => x ** 3));
    const point = Float32Array.of(1, 0.5);
    const errors = await Promise.all(
      [0.08, 0.04].map(async (epsilon) => (await hessianProduct(cubes, point, epsilon)([1, 0]))[0]! - 3),
    );
    expect(errors[0]! / errors[1]!).toBeCloseTo(4, 1);
    expect(errors[0]).toBeCloseTo((0.08 * (1 + norm(point))) ** 2, 3);
  });

  it("stop being computed when the signal aborts", async () => {
    const control = new AbortController();
    const onProgress = (done: number): void => {
      if (done === 2) control.abort(new Error("enough"));
    };
    const run = spectrumOf((w) => Promise.resolve(symmetric(values)(w)), at, { onProgress, signal: control.signal });
    await expect(run).rejects.toThrow("enough");
  });
});

/** Softmax regression in float64 on made-up data: its gradient, and its Hessian's product with a vector in closed form. */
function softmaxRegression() {
  const [examples, inputs, classes] = [12, 5, 3];
  const x = normals(examples * inputs, 7);
  const size = inputs * classes;
  const logits = (w: ArrayLike<number>, n: number): number[] =>
    Array.from({ length: classes }, (_, c) => dot(rowOf(w, c), rowOf(x, n)));
  const rowOf = (matrix: ArrayLike<number>, row: number): number[] =>
    Array.from({ length: inputs }, (_, i) => matrix[row * inputs + i]!);
  const softmax = (z: number[]): number[] => {
    const total = z.reduce((sum, value) => sum + Math.exp(value), 0);
    return z.map((value) => Math.exp(value) / total);
  };
  const sum = (part: (n: number) => number[]): Float64Array => {
    const total = new Float64Array(size);
    for (let n = 0; n < examples; n++) {
      part(n).forEach((value, c) =>
        rowOf(x, n).forEach((xi, i) => (total[c * inputs + i]! += (value * xi) / examples)),
      );
    }
    return total;
  };
  return {
    size,
    gradient: (w: ArrayLike<number>) =>
      sum((n) => softmax(logits(w, n)).map((p, c) => p - (n % classes === c ? 1 : 0))),
    hessian: (w: ArrayLike<number>, v: ArrayLike<number>) =>
      sum((n) => {
        const [p, z] = [softmax(logits(w, n)), logits(v, n)];
        const mean = dot(p, z);
        return p.map((share, c) => share * (z[c]! - mean));
      }),
  };
}

describe("a loss landscape", () => {
  const shapes = new Map([
    ["a", { shape: [3, 4] }],
    ["bias", { shape: [5] }],
    ["b", { shape: [2, 4] }],
  ]);
  const layout = new VectorLayout(shapes);
  const at = Float32Array.from(normals(layout.size, 11));
  at.fill(0, 17, 21);

  it("has orthogonal directions, of which every row and every vector is as long as that of the weights", () => {
    const directions = randomDirections(layout, at, 1);
    const filters = [0, 4, 8, 12].map((start, i) => [start, i < 3 ? start + 4 : 17] as const);
    for (const direction of directions) {
      for (const [start, end] of filters) {
        expect(norm(direction.subarray(start, end)) / norm(at.subarray(start, end))).toBeCloseTo(1, 5);
      }
      expect(norm(direction.subarray(17, 21)), "direction of a row of zeros").toBe(0);
      expect(norm(direction) / norm(at), "the complete direction").toBeCloseTo(1, 5);
    }
    const [first, second] = directions;
    for (const [start, end] of filters) {
      expect(dot(first.subarray(start, end), second.subarray(start, end)) / dot(at, at)).toBeCloseTo(0, 6);
    }
    expect(randomDirections(layout, at, 1)[1]).toEqual(second);
    expect(randomDirections(layout, at, 2)[0]).not.toEqual(first);
  });

  it("keeps vectors fixed if asked to, as Li et al.", () => {
    for (const direction of randomDirections(layout, at, 1, "fixed")) {
      expect(norm(direction.subarray(12, 17)), "direction of a bias").toBe(0);
      expect(norm(direction.subarray(0, 4)), "direction of a row").toBeGreaterThan(0);
    }
  });

  it("takes a tensor with rows of one number as one filter", () => {
    const column = new VectorLayout(new Map([["b", { shape: [3, 1] }]]));
    const [first, second] = randomDirections(column, Float32Array.of(2, 3, 6), 1);
    expect([norm(first), norm(second)].map((length) => length.toFixed(5))).toEqual(["7.00000", "7.00000"]);
    expect(dot(first, second)).toBeCloseTo(0, 4);
  });

  it("has directions of a filter as calculated by hand", () => {
    // |w| = 5. a = (1, 0) becomes (5, 0); of b = (2, -3), (0, -3) is orthogonal to a, and becomes (0, -5).
    const [first, second] = filterDirections([3, 4], Float64Array.of(1, 0), Float64Array.of(2, -3));
    expect([[...first], [...second]]).toEqual([
      [5, 0],
      [0, -5],
    ]);
    const [alone, none] = filterDirections([-2], Float64Array.of(0.5), Float64Array.of(3));
    expect([[...alone], [...none]]).toEqual([[2], [0]]);
  });

  it("of a quadratic is that quadratic on the plane", async () => {
    const apply = symmetric(Array.from({ length: layout.size }, (_, i) => i - 3));
    const loss = (w: ArrayLike<number>): number => dot(w, apply(w)) / 2;
    const [first, second] = randomDirections(layout, at, 1);
    const options = { points: 5, span: 2 };
    const plane = await lossPlane((w) => Promise.resolve(loss(w)), at, [first, second], options);
    expect(plane.coordinates).toEqual([-2, -1, 0, 1, 2]);
    expect(plane.centre).toBe(plane.losses[2]![2]);
    const slope = (d: Float32Array): number => dot(d, apply(at));
    const curve = (d: Float32Array, e: Float32Array): number => dot(d, apply(e));
    plane.coordinates.forEach((b, j) =>
      plane.coordinates.forEach((a, i) => {
        const exact =
          loss(at) +
          a * slope(first) +
          b * slope(second) +
          (a * a * curve(first, first)) / 2 +
          a * b * curve(first, second) +
          (b * b * curve(second, second)) / 2;
        expect(Math.abs(plane.losses[j]![i]! - exact)).toBeLessThan(1e-3);
      }),
    );
  });
});

describe("a freezing schedule", () => {
  const SPAN = { steps: 100, stepsPerEpoch: 10, layers: 4 };

  it("of SAFE follows its cubic threshold, and freezes scores below it", async () => {
    const scores = [0.12, 0.01, 0.5, 0.12];
    const policy = safe({ tauT: 0.2, maxWarmup: 2, rampEnd: 8 });
    const { moments, frozenAt, levelName, remark } = await freezeSchedule(policy, { ...SPAN, scores: () => scores });
    expect(remark, "more than nothing froze").toBeUndefined();
    expect(levelName).toBe("threshold");
    expect(moments.map(({ step }) => step)).toEqual([10, 20, 30, 40, 50, 60, 70, 80, 90, 100]);
    moments.forEach(({ level, epoch }) => expect(level).toBeCloseTo(cubicThreshold(epoch, 2, 8, 0.2), 12));
    const first = (score: number): number => moments.find(({ level }) => score < level!)!.step;
    expect(frozenAt).toEqual([first(0.12), first(0.01), undefined, first(0.12)]);
    expect(frozenAt[1]).toBeLessThan(frozenAt[0]!);
  });

  it("of SAFE in a short run has its twenty intervals, and says that rising scores freeze too little", async () => {
    const rising = (step: number) => [1, 2, 3, 4].map((score) => score * step);
    const { moments, frozenAt, remark } = await freezeSchedule(safe(), { ...SPAN, stepsPerEpoch: 50, scores: rising });
    expect(moments.map(({ step }) => step)).toEqual(Array.from({ length: 20 }, (_, i) => 5 * (i + 1)));
    // Warm-up ends at step 20, with the median 50. tau_6 = 50 (1 - (4/6)^3) = 35.2, and layer 0 scores 30 by then.
    expect(frozenAt).toEqual([30, undefined, undefined, undefined]);
    expect(remark).toMatch(/froze 1 of the 2 layers that it was asked for: scores rose/);
  });

  it("of AFLoRA freezes the lowest scores first, and everything at the end", async () => {
    const policy = afloraFreezing({ initialEpochs: 1, finalShare: 0.5 });
    const { moments, frozenAt } = await freezeSchedule(policy, { ...SPAN, scores: () => [4, 1, 3, 2] });
    const order = [...frozenAt.keys()].sort((a, b) => frozenAt[a]! - frozenAt[b]!);
    expect(order).toEqual([1, 3, 2, 0]);
    const levels = moments.map(({ level }) => level!);
    expect([levels[0], levels.at(-1)]).toEqual([0, 1]);
  });

  it("is refused for a policy that reads more than scores", async () => {
    const scores = () => [1, 1, 1, 1];
    await expect(freezeSchedule(freezeToFit({ bytes: 10 }), { ...SPAN, scores })).rejects.toThrow(/does not know/);
    await expect(freezeSchedule(safe(), { ...SPAN, scores: () => [1] })).rejects.toThrow(/1 scores for 4 layers/);
    expect((await freezeSchedule(adapterDrop(), { ...SPAN, scores })).frozenAt).toEqual(Array(4).fill(undefined));
  });
});
