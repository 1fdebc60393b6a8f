import type { SchedulePlan } from "../report/analysis/schedule";
import { significant } from "../report/units";

const WIDTH = 60;
const HEIGHTS = "▁▂▃▄▅▆▇█";

/** A schedule as text: its level as a row of bars, then a row for every layer. */
export function scheduleChart({ schedule, epochs, stepsPerEpoch, showsLayers }: SchedulePlan): string[] {
  const { moments, levelName, frozenAt } = schedule;
  const columns = Array.from({ length: WIDTH }, (_, i) => ((i + 0.5) / WIDTH) * epochs);
  const axis = `${" ".repeat(12)}0${significant(epochs).padStart(WIDTH - 1)} epochs`;
  const levels = columns.map((epoch) => moments.findLast((moment) => moment.epoch <= epoch)?.level ?? 0);
  const most = Math.max(...levels);
  const bar = (level: number): string =>
    level > 0 ? HEIGHTS[Math.min(HEIGHTS.length - 1, Math.floor((HEIGHTS.length * level) / most))]! : " ";
  const level =
    levelName === undefined
      ? []
      : [`${"level".padEnd(12)}${levels.map(bar).join("")} ${levelName}, up to ${significant(most)}`];
  const row = (step: number | undefined, layer: number): string => {
    const end = step === undefined ? Infinity : step / stepsPerEpoch;
    const when = step === undefined ? "" : ` frozen at step ${step}`;
    return `${`layer ${layer}`.padEnd(12)}${columns.map((epoch) => (epoch < end ? "█" : "·")).join("")}${when}`;
  };
  return [...level, ...(showsLayers ? frozenAt.map(row).reverse() : []), axis];
}
