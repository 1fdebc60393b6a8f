import { ConfigError } from "../base/errors";
import { elements, sameShape } from "../base/shape";
import type { Shape } from "../base/shape";
import type { TensorSpec } from "../op/declaration";
import { DEFAULT_LIMITS } from "../op/limits";
import { applyMask } from "../ops/apply_mask";
import { softThreshold } from "../ops/soft_threshold";
import { squareSum } from "../ops/square_sum";
import { gradientName } from "../run/store";
import type { Recorder, Value } from "../tape/tape";
import { maskName, spanName, stateName } from "./names";
import type { Optimizer } from "./optimizer";
import { groupOf } from "./settings";
import type { TensorGroup } from "./settings";

/** Where a tensor lies in its arena. */
export interface ArenaPlace {
  /** Number of the arena, from 0. */
  readonly arena: number;
  /** Number of the tensor in the arena, from 0. */
  readonly index: number;
}

/** Arenas by the names of the tensors in them, in the order in which they lie there. */
export type Arenas = ReadonlyMap<string, ArenaPlace>;

/** Bytes after which the next tensor in a buffer begins. */
export const aligned = (bytes: number): number =>
  Math.ceil(bytes / DEFAULT_LIMITS.offsetAlignment) * DEFAULT_LIMITS.offsetAlignment;

export interface UpdateOptions {
  /** Tensors whose gradients are masked. Default none. */
  readonly masked?: ReadonlySet<string>;
  /** Bound of the soft threshold that follows the update of a tensor; undefined for none. Default none. */
  readonly proximal?: (name: string) => number | undefined;
  /** The group of a tensor. Default that of a tensor outside the head. */
  readonly group?: (name: string) => TensorGroup;
  /** Where tensors lie side by side. Default nowhere. */
  readonly arenas?: Arenas;
}

/** Live tensors that lie side by side and have the same settings: one launch reads or updates all of them. */
interface Span {
  readonly first: string;
  readonly group: TensorGroup;
  /** Shape of the tensor, or [n] of several with the zeros between them. */
  readonly shape: Shape;
  /** Key of each of the tensors' values, gradients and state in the store, given that of the first tensor. */
  readonly key: (first: string) => string;
}

/** The live tensors in their order, joined where they lie side by side. */
function spansOf(
  live: ReadonlyMap<string, TensorSpec>,
  group: (name: string) => TensorGroup,
  arenas: Arenas = new Map(),
): Span[] {
  const spans: Span[] = [];
  let previousName = "";
  for (const [name, spec] of live) {
    const [last, place, previous] = [spans.at(-1), arenas.get(name), arenas.get(previousName)];
    const settings = group(name);
    const isNext =
      place !== undefined &&
      place.arena === previous?.arena &&
      place.index === previous.index + 1 &&
      settings.input === last?.group.input &&
      settings.weightDecay === last.group.weightDecay;
    if (last && isNext) {
      const shape = [aligned(4 * elements(last.shape)) / 4 + elements(spec.shape)];
      spans[spans.length - 1] = { ...last, shape, key: spanName };
    } else {
      spans.push({ first: name, group: settings, shape: spec.shape, key: (first) => first });
    }
    previousName = name;
  }
  return spans;
}

type NormOptions = Pick<UpdateOptions, "masked" | "arenas" | "group">;

/**
 * Records the masks of gradients and the sum of their squares [1], a launch for each run of tensors that lie side by side and
 * have the same settings.
 * @param live the tensors with a gradient, at least one, by name.
 */
export function recordNorm(
  recorder: Recorder,
  live: ReadonlyMap<string, TensorSpec>,
  optimizer: Optimizer,
  options: NormOptions = {},
): Value {
  return normOfSpans(recorder, live, spansOf(live, groupsBy(optimizer, options), options.arenas), options.masked);
}

const groupsBy =
  ({ settings }: Optimizer, { group }: NormOptions) =>
  (name: string): TensorGroup =>
    group?.(name) ?? groupOf(settings, name);

function normOfSpans(
  recorder: Recorder,
  live: ReadonlyMap<string, TensorSpec>,
  spans: readonly Span[],
  masked: ReadonlySet<string> = new Set(),
): Value {
  for (const [name, { shape }] of live) {
    if (!masked.has(name)) continue;
    const x = recorder.parameter(gradientName(name), shape);
    recorder.record(applyMask, { x, mask: recorder.parameter(maskName(name), shape) }, {});
  }
  let total: Value | undefined;
  for (const { first, shape, key } of spans) {
    total = recorder.apply(squareSum, { x: recorder.parameter(key(gradientName(first)), shape), previous: total }, {});
  }
  return total!;
}

/** What `recordUpdate` recorded. */
export interface RecordedUpdate {
  /** Sum of squares of all gradients [1], before clipping. */
  readonly total: Value;
  /** Groups by the name of the input that holds their numbers. */
  readonly groups: ReadonlyMap<string, TensorGroup>;
}

/**
 * Records one update of named tensors: masks, the global norm, the optimizer, soft thresholds. Gradients are parameters of the
 * tape by `gradientName`, state by `stateName`, and each group of learning rates has an input of `hyperSize` numbers, which
 * `UpdateCounts` gives.
 * @param live the tensors with a gradient, at least one, by name.
 * @param loss of the step [1].
 * @throws ConfigError for an optimizer whose state does not fit its parameters.
 */
export function recordUpdate(
  recorder: Recorder,
  live: ReadonlyMap<string, TensorSpec>,
  optimizer: Optimizer,
  loss: Value,
  options: UpdateOptions = {},
): RecordedUpdate {
  const group = groupsBy(optimizer, options);
  const spans = spansOf(live, group, options.arenas);
  const total = normOfSpans(recorder, live, spans, options.masked);
  const { hyperSize } = optimizer;
  for (const { first, shape, key, group: settings } of optimizer.isElementwise ? spans : spansOf(live, group)) {
    const tensors = {
      p: recorder.parameter(key(first), shape),
      g: recorder.parameter(key(gradientName(first)), shape),
      state: Object.fromEntries(
        Object.entries(stateShapes(optimizer, shape, first)).map(([slot, slotShape]) => [
          slot,
          recorder.parameter(key(stateName(slot, first)), slotShape),
        ]),
      ),
      total,
      loss,
      hyper: recorder.input(settings.input, [hyperSize]),
    };
    const { weightDecay } = settings;
    recorder.labelled(key(first), () => optimizer.update(recorder, tensors, { name: first, weightDecay }));
  }
  for (const [name, { shape }] of live) {
    const p = recorder.parameter(name, shape);
    // What mixes elements moves those that are pruned.
    if (!optimizer.isElementwise && options.masked?.has(name)) {
      recorder.record(applyMask, { x: p, mask: recorder.parameter(maskName(name), shape) }, {});
    }
    const bound = options.proximal?.(name);
    if (bound !== undefined) {
      recorder.labelled(name, () => recorder.record(softThreshold, { p, total, loss }, { bound }));
    }
  }
  return { total, groups: new Map(spans.map(({ group: settings }) => [settings.input, settings])) };
}

/** Names of companions of a parameter that are no state of an optimizer. */
const RESERVED = new Set(["gradient", "mask", "sensitivity", "window's sensitivity", "uncertainty"]);

/**
 * The state of a parameter by slot.
 * @throws ConfigError for a slot with a reserved name, and for an elementwise optimizer with state of another shape.
 */
export function stateShapes(optimizer: Optimizer, shape: Shape, name: string): Readonly<Record<string, Shape>> {
  const state = optimizer.state(shape, name);
  for (const [slot, slotShape] of Object.entries(state)) {
    if (RESERVED.has(slot)) {
      throw new ConfigError(
        `The optimizer ${optimizer.name} has a state "${slot}", and the run has a tensor of this name.`,
        "Call the state otherwise.",
      );
    }
    if (optimizer.isElementwise && !sameShape(slotShape, shape)) {
      throw new ConfigError(
        `The optimizer ${optimizer.name} is elementwise, and its ${slot} of ${name} has another shape than ${name}.`,
        "Give it the parameter's shape, or set isElementwise to false.",
      );
    }
  }
  return state;
}
