import type { TestsOf } from "../op/declaration";
import { at, filled, input } from "./shared/reference";
import type { loraImportance } from "./lora_importance";

export const loraImportanceTests: TestsOf<typeof loraImportance> = {
  reference(tensors, { layout, scale, per }) {
    const [w, a, b] = [input(tensors, "w"), input(tensors, "a"), input(tensors, "b")];
    const [da, db] = [input(tensors, "da"), input(tensors, "db")];
    const [rank = 0, inputs = 0] = a.shape;
    const [outputs = 0] = b.shape;
    const importance = (o: number, i: number): number => {
      let [gradient, value] = [0, at(w, layout === "out_in" ? o * inputs + i : i * outputs + o)];
      for (let r = 0; r < rank; r++) {
        const [ar, br] = [at(a, r * inputs + i), at(b, o * rank + r)];
        const [dar, dbr] = [at(da, r * inputs + i), at(db, o * rank + r)];
        gradient += dbr * ar + br * dar - dbr * dar;
        value += scale * br * ar;
      }
      return Math.abs(gradient * value);
    };
    const [size, summed] = per === "out" ? [outputs, inputs] : [inputs, outputs];
    return {
      y: filled([size], (i) => {
        let sum = 0;
        for (let j = 0; j < summed; j++) sum += per === "out" ? importance(i, j) : importance(j, i);
        return sum;
      }),
    };
  },
  cases: [
    ...(["out_in", "in_out"] as const).flatMap((layout) =>
      (["out", "in"] as const).map((per) => ({
        name: `${layout}, a sum for each ${per}put, odd sizes`,
        attributes: { layout, per, scale: 0.7 },
        inputs: {
          w: { shape: layout === "out_in" ? [5, 70] : [70, 5] },
          a: { shape: [3, 70] },
          b: { shape: [5, 3] },
          da: { shape: [3, 70] },
          db: { shape: [5, 3] },
        },
      })),
    ),
    ...(["out", "in"] as const).map((per) => ({
      name: `rows that can be split over bindings, a sum for each ${per}put`,
      attributes: { layout: "out_in" as const, per, scale: 2 },
      inputs: {
        w: { shape: [192, 64] },
        a: { shape: [2, 64] },
        b: { shape: [192, 2] },
        da: { shape: [2, 64] },
        db: { shape: [192, 2] },
      },
    })),
    {
      name: "BERT-base feed-forward, rank 8",
      attributes: { layout: "out_in", per: "out", scale: 1 },
      inputs: {
        w: { shape: [3072, 768] },
        a: { shape: [8, 768] },
        b: { shape: [3072, 8] },
        da: { shape: [8, 768] },
        db: { shape: [3072, 8] },
      },
      bench: true,
    },
  ],
  malformed: [
    {
      name: "a B of another rank",
      attributes: { layout: "out_in", per: "out", scale: 1 },
      inputs: {
        w: { shape: [4, 6], dtype: "f32" },
        a: { shape: [2, 6], dtype: "f32" },
        b: { shape: [4, 3], dtype: "f32" },
        da: { shape: [2, 6], dtype: "f32" },
        db: { shape: [4, 2], dtype: "f32" },
      },
      message: /b is \[4, 3\]; w \[4, 6\] needs \[4, 2\]/,
    },
  ],
};
