import { setTimeout as sleep } from "node:timers/promises";
import { expect, it } from "vitest";
import { napping } from "../../src/node/napping";

const SOFTWARE = { isSoftware: true };

/** Milliseconds of processor time that a wait takes while something polls in every turn of the event loop, as Dawn does. */
async function processorTime(wait: (work: Promise<void>) => Promise<void>): Promise<number> {
  let isOver = false;
  const poll = (): unknown => isOver || setImmediate(poll);
  const start = process.cpuUsage();
  setImmediate(poll);
  await wait(sleep(400));
  isOver = true;
  const { user, system } = process.cpuUsage(start);
  return (user + system) / 1000;
}

it("napping saves processor time while something polls", async () => {
  const [withoutNaps, withNaps] = [
    await processorTime((work) => work),
    await processorTime((work) => napping(work, SOFTWARE)),
  ];
  expect(withNaps, `processor time in ms; without naps ${withoutNaps}`).toBeLessThan(withoutNaps / 2);
});

it("napping resolves and rejects as the work does", async () => {
  expect(await napping(Promise.resolve(3), SOFTWARE)).toBe(3);
  await expect(napping(Promise.reject(new Error("lost")), SOFTWARE)).rejects.toThrow("lost");
});

it("napping lets other callbacks run, and ends each wait with its work", async () => {
  let turns = 0;
  const counting = setInterval(() => turns++, 5);
  const order: string[] = [];
  const wait = (name: string, milliseconds: number): Promise<unknown> =>
    napping(sleep(milliseconds), SOFTWARE).then(() => order.push(name));
  await Promise.all([wait("long", 150), wait("short", 30)]);
  clearInterval(counting);
  expect(order).toEqual(["short", "long"]);
  expect(turns).toBeGreaterThan(10);
});
