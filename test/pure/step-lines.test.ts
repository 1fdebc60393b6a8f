import { expect, it } from "vitest";
import { stepLines } from "../../bench/support/step-lines";
import type { StepChart } from "../../bench/support/step-lines";

const points = (names: readonly string[]) =>
  names.flatMap((series, i) =>
    Array.from({ length: 10 }, (_, step) => ({ series, step, value: i + step, isMarked: i === 1 && step === 4 })),
  );

const chart = (names: readonly string[]): StepChart => ({
  name: "memory",
  title: "Memory & time",
  caption: "what there is to see",
  mark: "a freeze",
  panels: ["all (MB)", "saved (MB)"].map((y) => ({ y, points: points(names) })),
});

const count = (svg: string, pattern: RegExp): number => [...svg.matchAll(pattern)].length;

it("draws one line per series and panel, in the colour of the series, with labelled axes", () => {
  const { body } = stepLines(chart(["one", "two", "three"]));
  for (const [name, colour] of Object.entries({ one: "#0072B2", two: "#D55E00", three: "#009E73" })) {
    const lines = [...body.matchAll(/<g ([^>]*)>\s*<path/g)].filter(([, attributes = ""]) =>
      attributes.includes(`"${name}"`),
    );
    expect(lines, `lines of ${name}`).toHaveLength(2);
    expect(count(body, new RegExp(`<path [^>]*stroke="${colour}"`, "g")), `lines in ${colour}`).toBe(2);
  }
  for (const label of ["all (MB)", "saved (MB)", "one", "two", "three", "a freeze"]) expect(body).toContain(label);
  expect(count(body, /optimizer step/g)).toBe(2);
});

it("marks the chosen points and no others", () => {
  const { body } = stepLines(chart(["one", "two", "three"]));
  // One in each panel, and one in the legend.
  expect(count(body, /<circle [^>]*r="5"/g)).toBe(3);
});

it("refuses more series than it has colours", () => {
  expect(() => stepLines(chart(Array.from({ length: 7 }, (_, i) => `s${i}`)))).toThrow(/7 series.* 6 colours/);
});
