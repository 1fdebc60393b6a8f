import { readFile } from "node:fs/promises";
import { basename } from "node:path";
import * as v from "valibot";
import { freezeSchedule } from "../analysis/freeze-schedule";
import type { FreezeSchedule, LayerScores } from "../analysis/freeze-schedule";
import { FileFormatError } from "../base/errors";
import { checkSchema, parseJson } from "../io/json";
import { openDirectory } from "../node/directory";
import { scheduleFigure } from "../report/analysis/schedule";
import { saveResults } from "./analysis/results";
import { countOption, policyOption, textOption, UsageError } from "./options";
import type { Given } from "./options";
import { scheduleChart } from "./schedule-chart";

/** `safetape schedule`: what a policy would freeze and when, before anything is trained. */
export async function scheduleCommand(given: Given, print: (line: string) => void): Promise<void> {
  const layers = countOption(given, "layers", "--layers", 12);
  const steps = countOption(given, "steps", "--steps", 100);
  const stepsPerEpoch = countOption(given, "stepsPerEpoch", "--steps-per-epoch", Math.max(1, Math.round(steps / 10)));
  const hasScores = given["scores"] !== undefined;
  const scores = hasScores
    ? await scoresOption(textOption(given, "scores", "--scores"), layers)
    : unknownScores(layers);
  const policy = policyOption({
    ...(hasScores || given["freezeShare"] !== undefined ? {} : { tauT: 1 }),
    ...given,
    freeze: textOption(given, "policy", "--policy", "safe"),
  });
  const schedule = await freezeSchedule(policy, { steps, stepsPerEpoch, layers, scores });
  const showsLayers = hasScores || schedule.levelName === undefined;
  const plan = { schedule, epochs: steps / stepsPerEpoch, stepsPerEpoch, hasScores, showsLayers };
  const record = hasScores ? schedule : withoutScores(schedule);
  if (given["out"] !== undefined) {
    const out = await openDirectory(textOption(given, "out", "--out"), { create: true });
    const rows = schedule.moments.map(({ frozen, scores: own, level = "", ...rest }) => ({
      ...rest,
      level,
      frozen: frozen.join(" "),
      ...(hasScores && Object.fromEntries(own.map((score, layer) => [`score_${layer}`, score]))),
    }));
    await saveResults(
      out,
      "schedule",
      given,
      { record: { schedule: record }, rows, figure: scheduleFigure(plan) },
      print,
    );
  } else if (given["json"]) print(JSON.stringify(record));
  if (!given["json"]) for (const line of scheduleChart(plan)) print(line);
}

/** What is left where no scores were given: no number that was made up. */
function withoutScores({ moments, levelName, record }: FreezeSchedule): object {
  const { history: _madeUp, ...settings } = record;
  return { levelName, record: settings, moments: moments.map(({ step, epoch, level }) => ({ step, epoch, level })) };
}

type ScoresAt = (step: number) => LayerScores;

/** Above every threshold, and never at rest, so that a warm-up lasts as long as it may. */
function unknownScores(layers: number): ScoresAt {
  let asked = 0;
  return () => {
    asked++;
    return Array.from({ length: layers }, () => (asked % 2 === 0 ? 10 : 20));
  };
}

const RECORD = v.looseObject({
  policy: v.looseObject({
    history: v.pipe(
      v.array(v.looseObject({ interval: v.number(), scores: v.record(v.string(), v.number()) })),
      v.minLength(1),
    ),
  }),
});

/** One number for every layer, or the `run.json` of a run with SAFE, whose scores are then played again. */
async function scoresOption(text: string, layers: number): Promise<ScoresAt> {
  const numbers = text.split(",").map(Number);
  if (numbers.every(Number.isFinite)) {
    if (numbers.length === layers) return () => numbers;
    throw new UsageError(`--scores has ${numbers.length} numbers for ${layers} layers.`, "Give one for every layer.");
  }
  const bytes = await readFile(text).catch(() => {
    throw new FileFormatError(`No file ${text}.`, "Give numbers with commas, or the run.json of a run with SAFE.");
  });
  const { history } = checkSchema(RECORD, parseJson(bytes, basename(text)), basename(text)).policy;
  let asked = -1;
  // A frozen adapter is scored no more: it keeps its last score.
  const last = Array.from({ length: layers }, () => 0);
  return () => {
    asked = Math.min(asked + 1, history.length - 1);
    for (const [layer, score] of Object.entries(history[asked]?.scores ?? {})) last[Number(layer)] = score;
    return [...last];
  };
}
