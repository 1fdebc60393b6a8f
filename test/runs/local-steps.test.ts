import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { stepWireBytes } from "safetape/distributed";
import type { LocalStepsOptions } from "safetape/distributed";
import { startNats, whyNoNats } from "../../bench/distributed/nats-server";
import type { NatsServer } from "../../bench/distributed/nats-server";
import { dataOf, digestOf, subjectTrainer } from "../../bench/distributed/subject";
import type { Subject } from "../../bench/distributed/subject";
import { adalora } from "../../src/adapter/adalora";
import { elements } from "../../src/base/shape";
import { splitBatch } from "../../src/data/split";
import { memoryDirectory } from "../../src/io/directory";
import type { BatchSource } from "../../src/train/options";
import type { StepReport } from "../../src/train/loop/reports";
import type { Trainer } from "../../src/train/trainer";
import { device, digestsOf, end } from "../support/devices";
import { useEngine } from "../support/engine";
import { failure } from "../support/failure";
import { itLong, some } from "../support/long";

const engine = await useEngine();
const reason = await whyNoNats();
let server: NatsServer;
let runs = 0;

type Weights = ReadonlyMap<string, { readonly data: Float32Array }>;

describe.skipIf(reason !== undefined)(`local steps${reason === undefined ? "" : ` (left out: ${reason})`}`, () => {
  beforeAll(async () => void (server = await startNats()));
  afterAll(() => server.stop());

  const newRun = () => ({ servers: server.address, run: `local-${++runs}` });

  /** The rows of each batch that a device of two has, and their numbers. */
  function halfOf(subject: Subject, half: 0 | 1): BatchSource & { readonly drawn: number[] } {
    const data = dataOf(subject);
    const drawn: number[] = [];
    return {
      perEpoch: data.perEpoch,
      drawn,
      next() {
        const batch = data.next();
        const middle = Math.round(batch.rows / 2);
        const range = half === 0 ? { from: 0, to: middle } : { from: middle, to: batch.rows };
        drawn.push(range.to - range.from);
        return splitBatch(batch, subject.batch / 2, range)[0]!.batch;
      },
    };
  }

  /** Masks belong to a row's place in its batch. Adam divides by the size of a gradient, so that its rounding would move a weight by more. */
  const options = { dropout: false, optimizer: { learningRate: 1e-3, maxGradNorm: 1, eps: 1e-2 } };

  /** Two devices that know nothing of each other, whose weights this function sets, in torch.optim.SGD's form. */
  async function reference(subject: Subject, { every, learningRate, momentum }: Required<LocalStepsOptions>) {
    const data = [halfOf(subject, 0), halfOf(subject, 1)] as const;
    const two = [
      await subjectTrainer(engine, subject, { ...options, data: data[0] }),
      await subjectTrainer(engine, subject, { ...options, data: data[1] }),
    ] as const;
    const each = two.map((trainer) => trainer.steps());
    const velocity = new Map<string, Float64Array>();
    let exchanged = 0;
    let start: Weights = await two[0].snapshot();
    for (let step = 1; step <= subject.steps; step++) {
      for (const steps of each) await steps.next();
      if (step % every !== 0 && step !== subject.steps) continue;
      const [a, b] = [await two[0].snapshot(), await two[1].snapshot()];
      // The trainer has drawn a batch ahead.
      const [rowsA, rowsB] = data.map(({ drawn }) => drawn.slice(exchanged, step).reduce((sum, n) => sum + n, 0));
      const share = rowsA! / (rowsA! + rowsB!);
      const next = new Map(
        [...start].map(([name, { data }]) => {
          const [dataA, dataB] = [a.get(name)!.data, b.get(name)!.data];
          const v = velocity.get(name) ?? new Float64Array(data.length);
          velocity.set(name, v);
          const moved = data.map((value, i) => {
            const gradient = value - (share * dataA[i]! + (1 - share) * dataB[i]!);
            v[i] = momentum * v[i]! + gradient;
            return value - learningRate * (gradient + momentum * v[i]);
          });
          return [name, { shape: a.get(name)!.shape, data: moved }];
        }),
      );
      for (const trainer of two) await trainer.restore(next);
      start = next;
      exchanged = step;
    }
    two.forEach(end);
    return start;
  }

  it.each(
    some(
      [
        { every: 2, learningRate: 0.7, momentum: 0.9 },
        { every: 1, learningRate: 1, momentum: 0 },
      ],
      2,
    ),
  )("of $every with the rate $learningRate and the momentum $momentum are those of the paper", async (localSteps) => {
    const subject = { steps: 7, batch: 8 };
    const run = newRun();
    const a = await device(engine, subject, { ...run, localSteps, devices: 2 }, options);
    const b = await device(engine, subject, { ...run, localSteps, devices: 2 }, options);
    const sent: number[] = [];
    const see = ({ wire }: StepReport) => void sent.push(wire!.sent);
    const [digestsA, digestsB] = await Promise.all([digestsOf(a, Infinity, see), digestsOf(b)]);
    const live = [...a.state.live.values()].reduce((sum, { shape }) => sum + elements(shape), 0);
    const { result } = stepWireBytes(live, 2, { encoding: "f32", localSteps: localSteps.every });
    const ofExchanges = sent.slice(0, 6).reduce((sum, bytes) => sum + bytes, 0);
    expect(ofExchanges, "bytes that the leader sent in six steps").toBe(6 * result);
    for (const [step, digest] of digestsA) {
      const isExchange = step % localSteps.every === 0 || step === subject.steps;
      expect(digestsB.get(step) === digest, `same tensors after step ${step}`).toBe(isExchange);
    }
    const weights = await a.snapshot();
    [a, b].forEach(end);
    for (const [name, { data }] of await reference(subject, localSteps)) {
      const worst = Math.max(...data.map((value, i) => Math.abs(value - weights.get(name)!.data[i]!)));
      expect(worst, name).toBeLessThan(1e-6);
    }
  });

  it("exchange in int8 with a freeze by SAFE, one that leaves and one that joins, and as many bytes as planned", async () => {
    const subject = { steps: 12, batch: 8, policy: "safe" } as const;
    const joining = { localSteps: { every: 3 }, encoding: "int8", token: "secret", devices: 2 } as const;
    const run = newRun();
    const [a, b] = [
      await device(engine, subject, { ...run, ...joining }),
      await device(engine, subject, { ...run, ...joining }),
    ];
    let joined: Promise<[Trainer, Map<number, string>]> | undefined;
    const reports: { readonly step: number; readonly frozen: number; readonly isPlanned: boolean }[] = [];
    const first = (async () => {
      const digests = new Map<number, string>();
      for await (const { step, freezes, wire } of a.steps()) {
        digests.set(step, await digestOf(a));
        const isPlanned =
          JSON.stringify(wire!.planned) === JSON.stringify({ sent: wire!.sent, received: wire!.received });
        reports.push({ step, frozen: freezes.length, isPlanned });
        // It comes in the middle of the others' steps, and gets its state before the next ones.
        if (step === 4) {
          const c = device(engine, subject, { ...run, ...joining }).then(
            async (trainer) => [trainer, await digestsOf(trainer)] as const,
          );
          joined = c.then(([trainer, found]) => [trainer, found]);
          await new Promise((resolve) => setTimeout(resolve, 700));
        }
      }
      return digests;
    })();
    const second = digestsOf(b, 8).then((digests) => {
      end(b);
      return digests;
    });
    const [digestsA, digestsB] = await Promise.all([first, second]);
    const [c, digestsC] = await joined!;
    expect(digestsC.size, "steps of the one that joined").toBeGreaterThan(3);
    const exchanges = [...digestsA.keys()].filter((step) => step % 3 === 0);
    for (const step of exchanges) {
      for (const digests of [digestsB, digestsC]) {
        if (digests.has(step)) expect(digests.get(step), `tensors after step ${step}`).toBe(digestsA.get(step));
      }
    }
    expect(exchanges.filter((step) => digestsC.has(step)).length).toBeGreaterThan(1);
    expect(reports.some(({ frozen }) => frozen > 0)).toBe(true);
    // What is sent while others come and go is not planned.
    const undisturbed = reports.filter(({ step }) => step > 1 && step < 4);
    expect(undisturbed.map(({ isPlanned }) => isPlanned)).toEqual([true, true]);
    [a, c].forEach(end);
  });

  itLong("go on from a checkpoint between two exchanges to the same bits", async () => {
    const subject = { steps: 9, batch: 8 };
    const joining = { localSteps: { every: 4 } };
    const whole = await device(engine, subject, { ...newRun(), ...joining });
    await whole.train();
    const digest = await digestOf(whole);
    end(whole);
    const directory = memoryDirectory("checkpoints");
    const first = await device(engine, subject, { ...newRun(), ...joining }, { checkpoints: { directory, every: 0 } });
    await digestsOf(first, 6);
    await first.saveCheckpoint();
    end(first);
    const second = await device(
      engine,
      subject,
      { ...newRun(), ...joining },
      { checkpoints: { directory, every: 0, resume: true } },
    );
    expect([...(await digestsOf(second)).keys()]).toEqual([7, 8, 9]);
    expect(await digestOf(second)).toBe(digest);
    end(second);
  });

  it("refuse adapters that cut by what one device has seen", async () => {
    const adapter = adalora({ initialRank: 4, targetRank: 2 });
    const error = await failure(
      device(engine, { steps: 2, batch: 8 }, { ...newRun(), localSteps: { every: 2 } }, { adapter }),
    );
    expect(error.message).toContain("changes its tensors");
  });
});
