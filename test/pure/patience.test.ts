import { afterEach, beforeEach, expect, it, vi } from "vitest";
import { Patience } from "../../src/gpu/patience";

beforeEach(() => {
  vi.useFakeTimers();
});
afterEach(() => {
  vi.useRealTimers();
});

const KIND = {};

/** Work that takes so long; gives when `wait` was called, and when it was all over. */
async function during(patience: Patience, milliseconds: number): Promise<{ asked: number; over: number }> {
  const start = performance.now();
  let asked = NaN;
  const wait = (): Promise<void> => {
    asked = performance.now() - start;
    return new Promise((resolve) => setTimeout(resolve, Math.max(0, milliseconds - asked)));
  };
  const done = patience.during(KIND, start, wait);
  await vi.runAllTimersAsync();
  await done;
  return { asked, over: performance.now() - start };
}

it("asks at once where waiting costs nothing", async () => {
  const patience = new Patience(false);
  for (let round = 0; round < 4; round++) expect((await during(patience, 100)).asked).toBe(0);
});

it("sleeps through most of the work once it knows how long it takes", async () => {
  const patience = new Patience(true);
  const asked: number[] = [];
  for (let round = 0; round < 4; round++) asked.push(Math.round((await during(patience, 100)).asked));
  expect(asked).toEqual([0, 0, 80, 80]);
});

it("forgets a long first time, and finds back to work that became short", async () => {
  const patience = new Patience(true);
  for (const milliseconds of [5000, 100, 100]) await during(patience, milliseconds);
  const late: number[] = [];
  for (let round = 0; round < 12; round++) late.push((await during(patience, 20)).over);
  expect(late[0], "slept too long once").toBeGreaterThan(70);
  expect(late.at(-1), "in the end").toBeLessThan(21);
});

it("does not sleep for work of a moment", async () => {
  const patience = new Patience(true);
  for (let round = 0; round < 4; round++) expect((await during(patience, 2)).asked).toBe(0);
});
