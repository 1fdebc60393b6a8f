import { layerOf } from "../model/model";
import type { RunRecord } from "./record";

/** The rows of one panel of the map: adapters of layers, or one matrix of one module in every layer. */
export interface AdapterGroup {
  /** Empty for whole adapters. */
  readonly title: string;
  readonly layers: readonly number[];
  readonly cells: readonly ScoredSpan[];
  readonly frozen: readonly FrozenSpan[];
}

/** A score, and the stretch of training that it was taken at the end of; in epochs. */
export interface ScoredSpan {
  readonly layer: number;
  readonly from: number;
  readonly to: number;
  readonly score: number;
}

/** From when on a row is frozen; in epochs. */
export interface FrozenSpan {
  readonly layer: number;
  readonly from: number;
  readonly to: number;
}

/** Columns that a map can show. */
const MOST_COLUMNS = 60;

/** A row: where it stands, the name of its score, and the tensors that it consists of. */
interface Row {
  readonly group: string;
  readonly layer: number;
  readonly key: string;
}

/** The map's panels; none where nothing was scored and nothing froze. */
export function adapterGroups(record: RunRecord): AdapterGroup[] {
  if (record.freezes.length === 0 && record.scores.length === 0) return [];
  const rows = isByTensor(record) ? tensorRows(record) : layerRows(record);
  const titles = [...new Set(rows.map(({ group }) => group))];
  return titles.map((title) => {
    const own = rows.filter(({ group }) => group === title).sort((a, b) => a.layer - b.layer);
    const frozen = own.flatMap((row) => frozenSpan(record, row));
    return { title, layers: own.map(({ layer }) => layer), cells: spans(record, own, frozen), frozen };
  });
}

/** Whether single tensors freeze rather than whole adapters. */
const isByTensor = ({ scores, freezes }: RunRecord): boolean =>
  scores.some(({ kind }) => kind === "sensitivity") ||
  (scores.length === 0 && freezes.some(({ layers, tensors }) => layers.length === 0 && tensors.length > 0));

function layerRows({ trained }: RunRecord): Row[] {
  const layers = new Set(trained.map(layerOf).filter((layer) => layer !== undefined));
  return [...layers].map((layer) => ({ group: "", layer, key: String(layer) }));
}

/** Tensors that were scored or frozen, by what they are called within their layer. */
function tensorRows({ scores, freezes }: RunRecord): Row[] {
  const names = [...scores.flatMap(({ values }) => Object.keys(values)), ...freezes.flatMap(({ tensors }) => tensors)];
  return [...new Set(names)].flatMap((key) => {
    const layer = layerOf(key);
    const [, place] = /(?:^|\.)(?:layer|layers|h)\.\d+\.(.+)$/.exec(key) ?? [];
    return layer === undefined || place === undefined ? [] : [{ group: place.replace(/\.weight$/, ""), layer, key }];
  });
}

function frozenSpan({ freezes, steps, stepsPerEpoch }: RunRecord, { group, layer, key }: Row): FrozenSpan[] {
  const found = freezes.find(({ layers, tensors }) => (group === "" ? layers.includes(layer) : tensors.includes(key)));
  const to = (steps.at(-1)?.step ?? 0) / stepsPerEpoch;
  return found ? [{ layer, from: found.step / stepsPerEpoch, to }] : [];
}

/** Scores up to the moment of freezing; what a policy goes on scoring after it is left out. */
function spans(record: RunRecord, rows: readonly Row[], frozen: readonly FrozenSpan[]): ScoredSpan[] {
  const { scores, stepsPerEpoch } = record;
  const every = Math.ceil(scores.length / MOST_COLUMNS);
  const shown = scores.filter((_, i) => (scores.length - 1 - i) % every === 0);
  return shown.flatMap(({ step, values }, i) => {
    const [from, to] = [(shown[i - 1]?.step ?? 0) / stepsPerEpoch, step / stepsPerEpoch];
    return rows.flatMap(({ layer, key }) => {
      const score = values[key];
      const end = frozen.find((span) => span.layer === layer)?.from ?? Infinity;
      return score === undefined || from >= end ? [] : [{ layer, from, to: Math.min(to, end), score }];
    });
  });
}
