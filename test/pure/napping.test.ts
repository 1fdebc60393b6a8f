import { setTimeout as later } from "node:timers/promises";
import { expect, it } from "vitest";
import { napping } from "../../src/node/napping";

const SOFTWARE = { isSoftware: true };

/** Milliseconds of processor time that waiting takes while something asks in every turn of the event loop, as Dawn does. */
async function processorTime(wait: (work: Promise<void>) => Promise<void>): Promise<number> {
  let isOver = false;
  const ask = (): unknown => isOver || setImmediate(ask);
  const start = process.cpuUsage();
  setImmediate(ask);
  await wait(later(400));
  isOver = true;
  const { user, system } = process.cpuUsage(start);
  return (user + system) / 1000;
}

it("sleeps while something else keeps the event loop turning", async () => {
  const [asking, napped] = [
    await processorTime((work) => work),
    await processorTime((work) => napping(work, SOFTWARE)),
  ];
  expect(napped, `processor time in ms; without naps ${asking}`).toBeLessThan(asking / 2);
});

it("gives what the work gives, and throws what it throws", async () => {
  expect(await napping(Promise.resolve(3), SOFTWARE)).toBe(3);
  await expect(napping(Promise.reject(new Error("lost")), SOFTWARE)).rejects.toThrow("lost");
});

it("lets other callbacks run, and ends when the last of several waits does", async () => {
  let turns = 0;
  const counting = setInterval(() => turns++, 5);
  const order: string[] = [];
  const wait = (name: string, milliseconds: number): Promise<unknown> =>
    napping(later(milliseconds), SOFTWARE).then(() => order.push(name));
  await Promise.all([wait("long", 150), wait("short", 30)]);
  clearInterval(counting);
  expect(order).toEqual(["short", "long"]);
  expect(turns).toBeGreaterThan(10);
});
