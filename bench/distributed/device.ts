// One device of a run of several, as a process: trains a subject and tells each step on stdout.
import { setTimeout as sleep } from "node:timers/promises";
import { createEngine } from "../../src/node/engine";
import { join } from "../../src/node/entry/distributed";
import type { JoinOptions } from "../../src/distributed/join";
import type { World, WorldMember } from "../../src/train/world";
import { digestOf, subjectTrainer } from "./subject";
import type { Subject } from "./subject";

export interface DeviceOptions {
  readonly subject: Subject;
  /** Left out: the device trains alone. */
  readonly join?: JoinOptions;
  /** Leaves after so many steps. */
  readonly leaveAfter?: number;
  /** Leaves after so many steps of its own. */
  readonly leaveAfterSteps?: number;
  /** Waits so many milliseconds after each step. */
  readonly pause?: number;
  /** Waits after this step for a line on stdin. */
  readonly waitsAfter?: number;
  /** Tells the trained tensors at the end. */
  readonly tellsWeights?: boolean;
  /** Tells the digest of the trained tensors after every step. */
  readonly tellsDigests?: boolean;
}

const tell = (fact: object): void => void process.stdout.write(`${JSON.stringify(fact)}\n`);

/** The device's place in its run. */
let member: WorldMember | undefined;

const seen = (world: World): World => ({ ...world, enter: async (run) => (member = await world.enter(run)) });

async function main(given: string): Promise<void> {
  // Given by the program that starts this one.
  const options = JSON.parse(given) as DeviceOptions;
  using engine = await createEngine();
  using trainer = await subjectTrainer(engine, options.subject, {
    ...(options.join && { distributed: seen(join(options.join)) }),
    warn: (warning) => tell({ warning }),
  });
  tell({ created: engine.info.description });
  let made = 0;
  for await (const { step, loss, seconds, wire, freezes, frozenTensors, rowsAtOnce } of trainer.steps()) {
    const frozen = freezes.map(({ tensors }) => tensors.length);
    const digests = options.tellsDigests ? { digest: await digestOf(trainer) } : {};
    tell({ step, loss, seconds, wire, frozen, frozenTensors, rowsAtOnce, leads: member?.leads, ...digests });
    if (step === options.leaveAfter || ++made === options.leaveAfterSteps) break;
    if (step === options.waitsAfter) await new Promise((resolve) => process.stdin.once("data", resolve));
    if (options.pause !== undefined) await sleep(options.pause);
  }
  const weights: Record<string, number[]> = {};
  if (options.tellsWeights) for (const [name, { data }] of await trainer.snapshot()) weights[name] = [...data];
  const record = trainer.policyRecord();
  trainer.options.model.dispose();
  tell({ done: await digestOf(trainer), losses: [...trainer.history.losses], weights, record });
}

await main(process.argv[2] ?? "{}");
process.stdin.destroy();
