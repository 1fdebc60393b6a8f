import { basename, join } from "node:path";
import { subjectOf } from "../../analysis/subject";
import type { Subject } from "../../analysis/subject";
import { never } from "../../freeze/never";
import type { Policy } from "../../freeze/policy";
import { openDirectory } from "../../node/index";
import type { Named } from "../../report/analysis/named";
import { loadAdapter, saveAdapter } from "../../train/files";
import { Trainer } from "../../train/trainer";
import { UsageError } from "../options";
import type { RawOptions } from "../options";
import { RunView } from "../view/run-view";
import type { AnalysisSession } from "./session";

/** Options in which SAFE is the policy unless another one is given: training with it is compared with plain training. */
export const withPolicy = (raw: RawOptions): RawOptions => ({ freeze: "safe", ...raw });

/**
 * The fine-tuned models to compare: those of `--saved`, or two that are trained now, without freezing and with the policy
 * of `--freeze`. These are saved in the output directory, each in a folder of its name.
 * @throws UsageError if two folders of `--saved` have the same name.
 */
export async function subjects(session: AnalysisSession): Promise<Named<Subject>[]> {
  const { model, options, training } = session;
  if (options.saved) {
    const names = options.saved.map((path) => basename(path));
    const duplicate = names.find((name, i) => names.indexOf(name) !== i);
    if (duplicate !== undefined) {
      throw new UsageError(`--saved names two folders ${duplicate}.`, "Give folders with different names.");
    }
    const loaded = options.saved.map(async (path) => {
      const { adapter, tensors } = await loadAdapter(await openDirectory(path), model);
      return { name: basename(path), result: { model, adapter, tensors, loss: training.loss } };
    });
    return Promise.all(loaded);
  }
  const policy = training.policy ?? never();
  const trained: Named<Subject>[] = [];
  for (const each of policy.name === "never" ? [policy] : [never(), policy]) trained.push(await train(session, each));
  return trained;
}

async function train(session: AnalysisSession, policy: Policy): Promise<Named<Subject>> {
  const { model, training, screen, out } = session;
  const adapter = session.adapter();
  const name = policy.name === "never" ? adapter.kind : `${adapter.kind}+${policy.name}`;
  using trainer = await Trainer.create({ ...training, model, adapter, data: session.trainingData(), policy });
  screen.say(`training ${name}`);
  const view = new RunView(screen, () => undefined, trainer.state.specs);
  await trainer.train((report) => view.show(report));
  view.stop();
  await saveAdapter(await openDirectory(join(out.name, name), { create: true }), trainer);
  return { name, result: await subjectOf(trainer) };
}
