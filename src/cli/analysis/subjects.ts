import { basename } from "node:path";
import { subjectOf } from "../../analysis/subject";
import type { Subject } from "../../analysis/subject";
import { never } from "../../freeze/never";
import type { Policy } from "../../freeze/policy";
import { openDirectory } from "../../node/index";
import type { Named } from "../../report/analysis/named";
import { loadAdapter, saveAdapter } from "../../train/files";
import { Trainer } from "../../train/trainer";
import { policyOption, textOption, UsageError } from "../options";
import type { Given } from "../options";
import { RunView } from "../view/run-view";
import type { Workplace } from "./workplace";

/** Without a policy of its own, LoRA is compared with LoRA under SAFE. */
export const withPolicy = (given: Given): Given => ({ freeze: "safe", ...given });

/**
 * The fine-tuned models to compare: those of `--saved`, or two that are trained now, without freezing and with the policy
 * of `--freeze`. What is trained is saved beside the results, each in a folder of its name.
 */
export async function subjects(place: Workplace, given: Given, out: string): Promise<Named<Subject>[]> {
  const { model } = place;
  if (given["saved"] !== undefined) {
    const paths = textOption(given, "saved", "--saved").split(",");
    const loaded = paths.map(async (path) => {
      const { adapter, tensors } = await loadAdapter(await openDirectory(path), model);
      return { name: basename(path), result: { model, adapter, tensors } };
    });
    return unique(await Promise.all(loaded));
  }
  const policy = policyOption(given);
  const methods = [never(), ...(policy.name === "never" ? [] : [policy])];
  const found: Named<Subject>[] = [];
  for (const method of methods) found.push(await train(place, method, out));
  return found;
}

async function train(place: Workplace, policy: Policy, out: string): Promise<Named<Subject>> {
  const { model, training } = place;
  const adapter = place.adapter();
  const name = policy.name === "never" ? adapter.kind : `${adapter.kind}+${policy.name}`;
  using trainer = await Trainer.create({ ...training, model, adapter, data: place.trainingData(), policy });
  place.screen.say(`training ${name}`);
  const view = new RunView(place.screen, () => undefined, trainer.state.specs);
  await trainer.train((report) => view.show(report));
  view.stop();
  await saveAdapter(await openDirectory(`${out}/${name}`, { create: true }), trainer);
  return { name, result: await subjectOf(trainer) };
}

function unique(found: Named<Subject>[]): Named<Subject>[] {
  const twice = found.find(({ name }, i) => found.findIndex((other) => other.name === name) !== i);
  if (!twice) return found;
  throw new UsageError(`--saved names two folders ${twice.name}.`, "Give folders of different names.");
}
