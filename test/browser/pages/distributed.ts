// A device of a run of several, in a page. Tests call its functions by name.
import { digestOf, subjectTrainer } from "../../../bench/distributed/subject";
import type { Subject } from "../../../bench/distributed/subject";
import type { JoinOptions } from "../../../src/distributed/join";
import { createEngine } from "../../../src/engine";
import { join } from "../../../src/entry/distributed";

export interface PageEnd {
  readonly gpu: string;
  readonly losses: readonly number[];
  readonly digest: string;
  readonly steps: number;
  /** Bytes that are still live after everything was disposed of. */
  readonly left: number;
}

/** Takes part in a run until it ends. */
async function takePart(subject: Subject, options: JoinOptions): Promise<PageEnd> {
  using engine = await createEngine();
  let steps = 0;
  let end: Omit<PageEnd, "left">;
  {
    using trainer = await subjectTrainer(engine, subject, { distributed: join(options), warn: () => undefined });
    await trainer.train(() => steps++);
    const { description, device, architecture } = engine.info;
    const gpu = [description, device, architecture].join(" ");
    end = { gpu, losses: trainer.history.losses, digest: await digestOf(trainer), steps };
    trainer.options.model.dispose();
  }
  return { ...end, left: engine.ledger.liveBytes };
}

const page = { takePart };
export type DistributedPage = typeof page;
Object.assign(globalThis, { page });
