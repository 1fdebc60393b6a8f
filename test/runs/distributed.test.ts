import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { DeviceProcess } from "../../bench/distributed/devices";
import type { ToldEnd, ToldStep } from "../../bench/distributed/devices";
import { startNats, whyNoNats } from "../../bench/distributed/nats-server";
import type { NatsServer } from "../../bench/distributed/nats-server";
import { subjectTrainer } from "../../bench/distributed/subject";
import type { Subject } from "../../bench/distributed/subject";
import { memoryDirectory } from "../../src/io/directory";
import type { CheckpointOptions } from "../../src/train/options";
import { device, digestsOf, end } from "../support/devices";
import { useEngine } from "../support/engine";
import { itLong } from "../support/long";

const engine = await useEngine();
const reason = await whyNoNats();
let server: NatsServer;

/** Losses and weights of one device on complete batches. */
async function alone(subject: Subject): Promise<Pick<ToldEnd, "losses" | "weights">> {
  using trainer = await subjectTrainer(engine, subject);
  await trainer.train();
  const weights = Object.fromEntries([...(await trainer.snapshot())].map(([name, { data }]) => [name, [...data]]));
  trainer.dispose();
  trainer.options.model.dispose();
  return { losses: [...trainer.history.losses], weights };
}

/** As for micro-batches: Adam divides by the size of a gradient, so that its rounding can move a weight by more than itself. */
function expectSame(shared: Pick<ToldEnd, "losses" | "weights">, one: Pick<ToldEnd, "losses" | "weights">): void {
  shared.losses.forEach((loss, i) => expect(loss, `loss of step ${i + 1}`).toBeCloseTo(one.losses[i]!, 4));
  expect(shared.losses.length).toBe(one.losses.length);
  for (const [name, values] of Object.entries(one.weights)) {
    const worst = Math.max(...values.map((value, i) => Math.abs(value - shared.weights[name]![i]!)));
    expect(worst, name).toBeLessThan(2e-3);
  }
}

/** Whatever one device has told of a step, all that made it have told. */
function expectSameBits(devices: readonly DeviceProcess[]): void {
  const digests = new Map<number, string>();
  for (const { step, digest } of devices.flatMap(({ steps }) => steps)) {
    expect(digest, `tensors after step ${step}`).toBe(digests.get(step) ?? digest);
    digests.set(step, digest!);
  }
}

const planned = ({ wire }: ToldStep) => wire && { sent: wire.sent, received: wire.received };

describe.skipIf(reason !== undefined)(`several devices${reason === undefined ? "" : ` (left out: ${reason})`}`, () => {
  beforeAll(async () => void (server = await startNats()));
  afterAll(() => server.stop());

  it("train as one does, with a freeze by SAFE, one that is killed and one that joins", async () => {
    const subject = { steps: 12, batch: 9, policy: "safe" } as const;
    const options = {
      subject,
      join: { servers: server.address, run: "leave-and-join", devices: 2, deadline: 4, token: "secret" },
      tellsDigests: true,
      tellsWeights: true,
      pause: 100,
    };
    const waiting = { ...options, waitsAfter: 3 };
    const [a, b] = await Promise.all([DeviceProcess.start(waiting), DeviceProcess.start(waiting)]);
    const one = alone(subject);
    await Promise.all([a.step(3), b.step(3)]);
    const c = await DeviceProcess.start(options);
    await c.created();
    for (const device of [a, b]) device.go();
    await c.step(1);
    const killedAfter = a.steps.at(-1)!.step;
    await b.kill();
    const ends = await Promise.all([a.end(), c.end()]);
    expect(killedAfter).toBeLessThan(12);
    expect(new Set(ends.map(({ done }) => done)).size, "digests at the end").toBe(1);
    expectSameBits([a, b, c]);
    for (const end of ends) expectSame(end, await one);
    const freeze = a.steps.find(({ frozen }) => frozen.length > 0);
    expect(freeze, "a freeze").toBeDefined();
    for (const told of a.steps.filter(({ step }) => step < killedAfter && step > 1)) {
      expect(planned(told), `bytes of step ${told.step}`).toEqual(told.wire?.planned);
    }
    // Whichever of the two led.
    expect([...a.warnings, ...c.warnings].join("\n")).toMatch(/left out|leads from now on/);
  });

  itLong("resume one checkpoint to the bits of a run that was not interrupted", async () => {
    const subject = { steps: 7, batch: 8, policy: "fixed" } as const;
    const directory = memoryDirectory("checkpoints");
    const ends: string[] = [];
    /** Two devices train to the end, or to a step after which the one that began saves and both end. */
    const train = async (run: string, checkpoints: CheckpointOptions, until = Infinity): Promise<number[]> => {
      const joining = { servers: server.address, run, devices: 2 };
      const first = await device(engine, subject, joining, { checkpoints });
      const second = await device(engine, subject, joining);
      const digests = await Promise.all([first, second].map((trainer) => digestsOf(trainer, until)));
      if (until < subject.steps) await first.saveCheckpoint();
      ends.push(...digests.map((each) => [...each.values()].at(-1)!));
      [second, first].forEach(end);
      return [...digests[1]!.keys()];
    };
    expect(await train("undisturbed", {})).toEqual([1, 2, 3, 4, 5, 6, 7]);
    expect(await train("interrupted", { directory, every: 0 }, 4)).toEqual([1, 2, 3, 4]);
    expect(await train("resumed", { directory, every: 0, resume: true })).toEqual([5, 6, 7]);
    const [one, two, , , ...resumed] = ends;
    expect(two).toBe(one);
    expect(resumed).toEqual([one, one]);
  });
});
