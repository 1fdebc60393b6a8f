import type { RunRecord } from "./record";

/** A panel of the map: the adapters of all layers, or one matrix of one module in every layer. */
export interface AdapterGroup {
  /** Name of the matrix; empty for complete adapters. */
  readonly title: string;
  /** Layers with a row, the lowest first. */
  readonly layers: readonly number[];
  readonly cells: readonly ScoredSpan[];
  readonly frozen: readonly FrozenSpan[];
}

/** A score, and the part of the training at whose end it was computed. `from` and `to` are epochs. */
export interface ScoredSpan {
  readonly layer: number;
  readonly from: number;
  readonly to: number;
  readonly score: number;
}

/** The part of the training in which a row is frozen. `from` and `to` are epochs. */
export interface FrozenSpan {
  readonly layer: number;
  readonly from: number;
  readonly to: number;
}

/** Most columns of a map. */
const MOST_COLUMNS = 60;

interface Row {
  /** Title of the group that the row belongs to. */
  readonly group: string;
  readonly layer: number;
  /** Name of the row's score: a layer's number, or the name of a tensor. */
  readonly key: string;
}

/** The panels of the map; none if nothing was scored and nothing froze. */
export function adapterGroups(record: RunRecord): AdapterGroup[] {
  if (record.freezes.length === 0 && record.scores.length === 0) return [];
  const rows = isByTensor(record) ? tensorRows(record) : layerRows(record);
  const titles = [...new Set(rows.map(({ group }) => group))];
  return titles.map((title) => {
    const groupRows = rows.filter(({ group }) => group === title).sort((a, b) => a.layer - b.layer);
    const frozen = groupRows.flatMap((row) => frozenSpan(record, row));
    const layers = groupRows.map(({ layer }) => layer);
    return { title, layers, cells: scoredSpans(record, groupRows, frozen), frozen };
  });
}

/** Whether single tensors freeze instead of complete adapters. */
const isByTensor = ({ scores, freezes }: RunRecord): boolean =>
  scores.some(({ kind }) => kind === "sensitivity") ||
  (scores.length === 0 && freezes.some(({ layers, tensors }) => layers.length === 0 && tensors.length > 0));

function layerRows(record: RunRecord): Row[] {
  return [...new Set(layersOf(record).values())].map((layer) => ({ group: "", layer, key: String(layer) }));
}

/** Layers of the trained tensors in layers, by name. */
function layersOf({ trained, trainedLayers }: RunRecord): ReadonlyMap<string, number> {
  const layers = new Map<string, number>();
  for (const [i, name] of trained.entries()) {
    const layer = trainedLayers ? trainedLayers[i] : parsedLayer(name);
    if (typeof layer === "number") layers.set(name, layer);
  }
  return layers;
}

/** The layer in a tensor's name, for records of older versions, which do not have `trainedLayers`. */
function parsedLayer(name: string): number | undefined {
  const [, layer] = /(?:^|\.)(?:layer|layers|h)\.(\d+)\./.exec(name) ?? [];
  return layer === undefined ? undefined : Number(layer);
}

/** Tensors that were scored or frozen. Their group is their name within the layer. */
function tensorRows(record: RunRecord): Row[] {
  const { scores, freezes } = record;
  const layers = layersOf(record);
  const names = [...scores.flatMap(({ values }) => Object.keys(values)), ...freezes.flatMap(({ tensors }) => tensors)];
  return [...new Set(names)].flatMap((key) => {
    const layer = layers.get(key);
    if (layer === undefined) return [];
    return [{ group: matrixName(key, layer), layer, key }];
  });
}

/** The name of a tensor within its layer. */
export function matrixName(name: string, layer: number): string {
  const infix = `.${layer}.`;
  const start = name.indexOf(infix);
  return (start < 0 ? name : name.slice(start + infix.length)).replace(/\.weight$/, "");
}

function frozenSpan({ freezes, steps, stepsPerEpoch }: RunRecord, { group, layer, key }: Row): FrozenSpan[] {
  const freeze = freezes.find(({ layers, tensors }) => (group === "" ? layers.includes(layer) : tensors.includes(key)));
  const to = (steps.at(-1)?.step ?? 0) / stepsPerEpoch;
  return freeze ? [{ layer, from: freeze.step / stepsPerEpoch, to }] : [];
}

/** Scores of the rows until they freeze. Policies may continue to score frozen rows; these scores are left out. */
function scoredSpans(record: RunRecord, rows: readonly Row[], frozen: readonly FrozenSpan[]): ScoredSpan[] {
  const { scores, stepsPerEpoch } = record;
  const every = Math.ceil(scores.length / MOST_COLUMNS);
  const columns = scores.filter((_, i) => (scores.length - 1 - i) % every === 0);
  return columns.flatMap(({ step, values }, i) => {
    const [from, to] = [(columns[i - 1]?.step ?? 0) / stepsPerEpoch, step / stepsPerEpoch];
    return rows.flatMap(({ layer, key }) => {
      const score = values[key];
      const end = frozen.find((span) => span.layer === layer)?.from ?? Infinity;
      return score === undefined || from >= end ? [] : [{ layer, from, to: Math.min(to, end), score }];
    });
  });
}
