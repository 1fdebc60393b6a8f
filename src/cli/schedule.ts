import { basename, dirname } from "node:path";
import * as v from "valibot";
import { freezeSchedule } from "../analysis/freeze-schedule";
import type { FreezeSchedule, LayerScores } from "../analysis/freeze-schedule";
import { readJson } from "../io/json";
import { openDirectory } from "../node/directory";
import { scheduleFigure } from "../report/analysis/schedule";
import { checkResults, saveResults } from "./analysis/results";
import { policyFrom, SCHEDULE, scoresIn } from "./flags";
import { inFlags } from "./in-flags";
import { readOptions, UsageError } from "./options";
import type { Print, RawOptions } from "./options";
import { scheduleChart } from "./schedule-chart";

/** `safetape schedule`: shows what a policy would freeze and when, without training. */
export async function scheduleCommand(raw: RawOptions, print: Print): Promise<void> {
  const options = readOptions(SCHEDULE, raw);
  await checkResults(options.out, "schedule", raw);
  const { layers, steps, freezeShare, json } = options;
  const { stepsPerEpoch = Math.max(1, Math.round(steps / 10)) } = options;
  const hasScores = options.scores !== undefined;
  const scores = hasScores ? await readScores(options.scores, layers) : placeholderScores(layers);
  // Without scores, SAFE cannot derive its final threshold from the share of adapters to freeze.
  const needsThreshold = !hasScores && freezeShare === undefined && Object.keys(options.policy).length === 1;
  const { tauT = needsThreshold ? 1 : undefined } = options;
  const policy = policyFrom(options.policy, { ...options, tauT }, "--policy");
  const schedule = await freezeSchedule(policy, { steps, stepsPerEpoch, layers, scores });
  const showsLayers = hasScores || schedule.levelName === undefined;
  const plan = { schedule, epochs: steps / stepsPerEpoch, stepsPerEpoch, hasScores, showsLayers };
  const record = hasScores ? schedule : withoutScores(schedule);
  if (options.out !== undefined) {
    const out = await openDirectory(options.out, { create: true });
    const rows = schedule.moments.map(({ frozen, scores: layerScores, level = "", ...rest }) => ({
      ...rest,
      level,
      frozen: frozen.join(" "),
      ...(hasScores && Object.fromEntries(layerScores.map((score, layer) => [`score_${layer}`, score]))),
    }));
    await saveResults(
      out,
      "schedule",
      raw,
      { record: { schedule: record }, rows, figure: scheduleFigure(plan) },
      print,
    );
  } else if (json) print(JSON.stringify(record));
  if (!json) for (const line of scheduleChart(plan)) print(line);
  if (hasScores && schedule.remark !== undefined) process.stderr.write(`${inFlags(schedule.remark, SCHEDULE)}\n`);
}

/** The parts of a schedule that do not depend on placeholder scores. */
function withoutScores({ moments, levelName, record }: FreezeSchedule): object {
  const { history: _history, ...settings } = record;
  return { levelName, record: settings, moments: moments.map(({ step, epoch, level }) => ({ step, epoch, level })) };
}

type ScoresAt = (step: number) => LayerScores;

/** Scores that are above every threshold and never settle: nothing freezes, and a warm-up takes its full length. */
function placeholderScores(layers: number): ScoresAt {
  let calls = 0;
  return () => {
    calls++;
    return Array.from({ length: layers }, () => (calls % 2 === 0 ? 10 : 20));
  };
}

/** The scores in the `run.json` of a run with SAFE. */
const RECORD = v.looseObject({
  policy: v.looseObject({
    history: v.pipe(
      v.array(v.looseObject({ interval: v.number(), scores: v.record(v.string(), v.number()) })),
      v.minLength(1),
    ),
  }),
});

/** Reads `--scores`: one number per layer, or the path of a `run.json`, whose scores are replayed. */
async function readScores(numbersOrPath: string, layers: number): Promise<ScoresAt> {
  const numbers = scoresIn(numbersOrPath);
  if (numbers) {
    if (numbers.length === layers) return () => numbers;
    throw new UsageError(`--scores has ${numbers.length} numbers for ${layers} layers.`, "Give one for every layer.");
  }
  const directory = await openDirectory(dirname(numbersOrPath));
  const { history } = (await readJson(directory, basename(numbersOrPath), RECORD)).policy;
  let entry = -1;
  // A frozen adapter has no further scores and keeps its last one.
  const lastScores = Array.from({ length: layers }, () => 0);
  return () => {
    entry = Math.min(entry + 1, history.length - 1);
    for (const [layer, score] of Object.entries(history[entry]?.scores ?? {})) lastScores[Number(layer)] = score;
    return [...lastScores];
  };
}
