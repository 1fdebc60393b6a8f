import type { SchedulePlan } from "../report/analysis/schedule";
import { significant } from "../report/units";

const WIDTH = 60;
const BARS = "▁▂▃▄▅▆▇█";

/** A schedule as lines of text: a row of bars for the policy's level, then one row per layer, and the axis. */
export function scheduleChart({ schedule, epochs, stepsPerEpoch, showsLayers }: SchedulePlan): string[] {
  const { moments, levelName, frozenAt } = schedule;
  const columnEpochs = Array.from({ length: WIDTH }, (_, i) => ((i + 0.5) / WIDTH) * epochs);
  const axis = `${" ".repeat(12)}0${significant(epochs).padStart(WIDTH - 1)} epochs`;
  const levels = columnEpochs.map((epoch) => moments.findLast((moment) => moment.epoch <= epoch)?.level ?? 0);
  const highest = Math.max(...levels);
  const bar = (level: number): string =>
    level > 0 ? BARS[Math.min(BARS.length - 1, Math.floor((BARS.length * level) / highest))]! : " ";
  const levelRow =
    levelName === undefined
      ? []
      : [`${"level".padEnd(12)}${levels.map(bar).join("")} ${levelName}, up to ${significant(highest)}`];
  const layerRow = (step: number | undefined, layer: number): string => {
    const end = step === undefined ? Infinity : step / stepsPerEpoch;
    const cells = columnEpochs.map((epoch) => (epoch < end ? "█" : "·")).join("");
    return `${`layer ${layer}`.padEnd(12)}${cells}${step === undefined ? "" : ` frozen at step ${step}`}`;
  };
  return [...levelRow, ...(showsLayers ? frozenAt.map(layerRow).reverse() : []), axis];
}
