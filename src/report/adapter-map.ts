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

function layerRows(record: RunRecord): Row[] {
  return [...new Set(layersOf(record).values())].map((layer) => ({ group: "", layer, key: String(layer) }));
}

/** Layers of trained tensors, by name; without those outside the layers. */
function layersOf({ trained, trainedLayers }: RunRecord): ReadonlyMap<string, number> {
  const layers = new Map<string, number>();
  for (const [i, name] of trained.entries()) {
    const layer = trainedLayers ? trainedLayers[i] : parsedLayer(name);
    if (typeof layer === "number") layers.set(name, layer);
  }
  return layers;
}

/** A tensor's layer by its name: records of older versions do not have `trainedLayers`. */
function parsedLayer(name: string): number | undefined {
  const [, layer] = /(?:^|\.)(?:layer|layers|h)\.(\d+)\./.exec(name) ?? [];
  return layer === undefined ? undefined : Number(layer);
}

/** Tensors that were scored or frozen, by what they are called within their layer. */
function tensorRows(record: RunRecord): Row[] {
  const { scores, freezes } = record;
  const layers = layersOf(record);
  const names = [...scores.flatMap(({ values }) => Object.keys(values)), ...freezes.flatMap(({ tensors }) => tensors)];
  return [...new Set(names)].flatMap((key) => {
    const layer = layers.get(key);
    if (layer === undefined) return [];
    const group = key
      .split(`.${layer}.`)
      .slice(1)
      .join(`.${layer}.`)
      .replace(/\.weight$/, "");
    return [{ group, layer, key }];
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
