import { expect, it } from "vitest";
import { memoryDirectory } from "safetape/data";
import { longRun, trainUntil } from "../../bench/support/long-run";
import { sumBytes } from "../../src/gpu/ledger";
import { useEngine } from "../support/engine";

const engine = await useEngine();

// npm run bench:soak is the long form: 20,000 steps, with the heap and the size of the process measured as well.
it("a run with freezes, changing lengths, evaluation and checkpoints holds the planned bytes, and resumes to the same bits", async () => {
  const long = longRun(80);
  const readings: { readonly bytes: number; readonly planned: number; readonly buffers: number }[] = [];
  const whole = await trainUntil(engine, long.steps, memoryDirectory("whole"), long, (trainer) => {
    const { liveBytes: bytes, buffers, live } = engine.ledger;
    expect(sumBytes(live), "live bytes by lifetime").toBe(bytes);
    readings.push({ bytes, buffers, planned: sumBytes(trainer.predictedBytes()) });
  });
  expect(whole).toHaveLength(long.steps);
  expect(engine.ledger.liveBytes, "bytes left after the run").toBe(0);
  const later = readings.slice(10);
  expect(later.map(({ bytes }) => bytes)).toEqual(later.map(({ planned }) => planned));
  expect(new Set(later.map(({ bytes }) => bytes)).size, "bytes before and after the second freeze").toBe(2);
  const pairs = new Set(later.map(({ bytes, buffers }) => `${bytes} bytes in ${buffers} buffers`));
  expect(pairs.size, [...pairs].join(", ")).toBe(2);

  const checkpoints = memoryDirectory("legs");
  let legs: number[] = [];
  for (let until = 20; until <= long.steps; until += 20) legs = await trainUntil(engine, until, checkpoints, long);
  expect(legs).toEqual(whole);
});
