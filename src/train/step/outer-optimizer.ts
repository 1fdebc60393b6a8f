import { elements } from "../../base/shape";
import type { TrainableTensors } from "../tensors/trainable-tensors";
import type { LocalSteps, Share, WorldMember, WorldPart } from "../world";
import type { GradientParts } from "./gradient-runs";
import { readTensors, writeTensors } from "./tensors-on-host";

type Parts = Pick<GradientParts, "options" | "state">;

/** What a tensor of a checkpoint holds of an outer optimizer, before the tensor's name. */
const PREFIXES = { start: "outer start ", momentum: "outer momentum " };

/**
 * The outer optimizer of local steps (DiLoCo; Douillard et al. 2023, algorithm 1), on the host: devices have the same bits after each of
 * its steps. With d the mean of what the devices have changed since the last one, m <- momentum m + d, and
 * tensor <- its value then + rate (d + momentum m): SGD with Nesterov's momentum, of which -d is the gradient.
 */
export class OuterOptimizer {
  /** Tensors at the last exchange, by name; empty where no step was made since. */
  #start = new Map<string, Float32Array>();
  #momentum = new Map<string, Float32Array>();
  /** Rows of this device's steps since then, and the milliseconds that they took. */
  #rows = 0;
  #millis = 0;

  constructor(readonly settings: LocalSteps) {}

  /** Whether the next step is the first after an exchange. */
  get isAtStart(): boolean {
    return this.#start.size === 0;
  }

  /** Called before each step. Before the first one, and where a run goes on from within, all agree on shares. */
  async begin(world: WorldMember, { options, state }: Parts): Promise<Share> {
    if (this.isAtStart || world.rounds === 0) await world.plan();
    if (this.isAtStart) {
      const names = [...state.live.keys()];
      const values = await readTensors({ options, state }, names);
      this.#start = byName(state, names, values);
    }
    // A device that has none does not get here: `plan` throws.
    return world.share!;
  }

  /** Counts a step. */
  count(rows: number, millis: number): void {
    this.#rows += rows;
    this.#millis += millis;
  }

  /** The outer step: all devices get the same tensors. */
  async exchange(world: WorldMember, parts: Parts): Promise<void> {
    const { state } = parts;
    const { learningRate, momentum } = this.settings;
    const names = [...this.#start.keys()];
    const start = joined([...this.#start.values()]);
    const mean = await world.round({
      sizeOf: () => ({ exact: 1, values: start.length }),
      millis: this.#millis,
      compute: async () => {
        const changed = (await readTensors(parts, names)).map((value, i) => value - start[i]!);
        return { exact: Float32Array.of(this.#rows), values: changed };
      },
      join: meanOf,
    });
    const moments = joined(names.map((name) => this.#momentum.get(name) ?? new Float32Array(sizeOf(state, name))));
    moments.forEach((value, i) => (moments[i] = momentum * value + mean.values[i]!));
    const values = start.map((value, i) => value + learningRate * (mean.values[i]! + momentum * moments[i]!));
    writeTensors(state, names, values);
    this.#momentum = byName(state, names, moments);
    this.#start = new Map();
    this.#rows = this.#millis = 0;
  }

  /** What a checkpoint keeps of it, by name. */
  save(): ReadonlyMap<string, Float32Array> {
    const named = (prefix: string, values: ReadonlyMap<string, Float32Array>): [string, Float32Array][] =>
      [...values].map(([name, data]) => [prefix + name, data]);
    return new Map([...named(PREFIXES.start, this.#start), ...named(PREFIXES.momentum, this.#momentum)]);
  }

  /**
   * Continues from what `save` returned.
   * @param live names of the tensors that learn.
   * @param read what was saved of a tensor of the run; undefined where there is none.
   */
  async restore(
    live: Iterable<string>,
    read: (saved: string, name: string) => Promise<Float32Array | undefined>,
  ): Promise<void> {
    this.#start = new Map();
    this.#momentum = new Map();
    this.#rows = this.#millis = 0;
    for (const name of live) {
      const start = await read(PREFIXES.start + name, name);
      const momentum = await read(PREFIXES.momentum + name, name);
      if (start) this.#start.set(name, start);
      if (momentum) this.#momentum.set(name, momentum);
    }
  }
}

const sizeOf = (state: TrainableTensors, name: string): number => elements(state.tensor(name).shape);

function byName(state: TrainableTensors, names: readonly string[], values: Float32Array): Map<string, Float32Array> {
  let offset = 0;
  return new Map(names.map((name) => [name, values.slice(offset, (offset += sizeOf(state, name)))]));
}

function joined(parts: readonly Float32Array[]): Float32Array {
  const values = new Float32Array(parts.reduce((sum, { length }) => sum + length, 0));
  parts.reduce((offset, part) => (values.set(part, offset), offset + part.length), 0);
  return values;
}

/** The mean of what devices have changed, weighted by the rows that they trained on. */
function meanOf(parts: readonly WorldPart[]): WorldPart {
  const rows = parts.reduce((sum, { exact }) => sum + exact[0]!, 0);
  const values = new Float32Array(parts[0]!.values.length);
  for (const part of parts) part.values.forEach((value, i) => (values[i]! += (part.exact[0]! / rows) * value));
  return { exact: Float32Array.of(rows), values };
}
