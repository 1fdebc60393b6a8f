import { canRun, namedVariants } from "../gpu/variants";
import type { KernelAdapter, VariantChoice } from "../gpu/variants";
import type { Launch, Variant } from "../op/launch";

/** Constants of kernels that choose how operands are read, or what an attention's score is. */
const OPTION = /_READ$|^(?:WINDOWED|CAPPED|SEGMENTED|RELATIVE|GRID)$/;

/** The value of RELATIVE with which every entry has products with rows of a table in addition. */
const TABLE_ROWS = 2;

/** An entry of a kernel, as one of its own where it reads rows of a table. */
const entryName = (kernel: string, entry: string, { RELATIVE }: Variant["constants"]): string =>
  `${kernel}.${entry}${RELATIVE === TABLE_ROWS ? " with rows of a table" : ""}`;

/**
 * Which variants are compared: all, those that the adapter runs by default, these once for each entry whatever its options, or
 * none.
 */
export type Compared = "all" | "usual" | "entries" | "none";

/** A variant that a case compares. */
export interface NotedVariant {
  readonly rounds: boolean;
  readonly half: boolean;
  /** Entries in which it runs. */
  readonly entries: ReadonlySet<string>;
  /** The same, each behind the name of its kernel. */
  readonly places: ReadonlySet<string>;
}

/**
 * Chooses kernels for cases that run first with the portable kernels and then with one variant after the other, on a device
 * that is opened with `choose`. A pipeline takes up to seconds, so a case compares a variant only if it has a new tile, entry, option or
 * format of its kernel; in the long form, what the adapter runs by default is compared in every case.
 */
export class VariantWalk {
  readonly #noted = new Map<string, NotedVariant & { entries: Set<string>; places: Set<string> }>();
  /** What the adapter runs by default, for launches of any size. */
  readonly usual: VariantChoice;
  #only: string | undefined;

  /**
   * @param isLong whether each packed format and size of heads is compared on its own, or one of them for all.
   * @param compared which variants are compared: all, those that the adapter runs by default, or by kernel.
   * @param covered tiles, entries and formats that earlier cases compared, here or in a walk beside this one.
   */
  constructor(
    private readonly adapter: KernelAdapter,
    private readonly isLong: boolean,
    private readonly compared: Compared | ((kernel: string) => Compared) = "all",
    readonly covered = new Set<string>(),
  ) {
    this.usual = namedVariants(adapter.isSoftware ? "subgroups" : "gpu", adapter, 0);
  }

  /** Runs a case with the portable kernels, and then `compare` with each variant that it has to compare. */
  async run(body: () => Promise<void>, compare: (name: string, variant: NotedVariant) => Promise<void>): Promise<void> {
    this.#noted.clear();
    await body();
    try {
      for (const [name, variant] of this.#noted) {
        this.#only = name;
        await compare(name, variant);
      }
    } finally {
      this.#only = undefined;
    }
  }

  /** Runs `body` with the portable kernels, and notes none of their variants. */
  async runPortable(body: () => Promise<void>): Promise<void> {
    this.#only = "portable";
    try {
      await body();
    } finally {
      this.#only = undefined;
    }
  }

  readonly choose: VariantChoice = (launch) => {
    const { entry, variants = [] } = launch;
    if (this.#only === undefined) {
      this.#note(launch);
      return undefined;
    }
    const isCompared = this.#noted.get(this.#only)?.entries.has(entry);
    return isCompared ? variants.find(({ name }) => name === this.#only) : undefined;
  };

  /** Whether a variant can run on the adapter and its kernel is not left out. */
  compares(variant: Variant): boolean {
    return canRun(variant, this.adapter) && this.#comparedOf(variant) !== "none";
  }

  #comparedOf({ kernel }: Variant): Compared {
    return typeof this.compared === "string" ? this.compared : this.compared(kernel.name);
  }

  #note(launch: Launch): void {
    const { entry, variants = [] } = launch;
    const usual = this.usual(launch);
    for (const variant of variants.filter((candidate) => this.compares(candidate))) {
      const compared = this.#comparedOf(variant);
      if (variant !== usual && compared !== "all") continue;
      const { name: kernelName } = variant.kernel;
      const traits =
        compared === "entries"
          ? [kernelName, entryName(kernelName, entry, variant.constants)]
          : this.traits(launch, variant);
      if ((variant !== usual || !this.isLong) && traits.every((trait) => this.covered.has(trait))) continue;
      traits.forEach((trait) => this.covered.add(trait));
      const { name, rounds = false, half = false, kernel } = variant;
      const noted = this.#noted.get(name) ?? { rounds, half, entries: new Set(), places: new Set() };
      noted.entries.add(entry);
      noted.places.add(`${kernel.name}.${entry}`);
      // A case is compared as a whole, so that one entry that rounds decides.
      this.#noted.set(name, { ...noted, rounds: noted.rounds || rounds });
    }
  }

  /** Tile, entry, options and format of a variant. A case compares it only if it has one that no earlier case has. */
  traits({ entry }: Launch, { kernel, name, constants }: Variant): string[] {
    const { FORMAT = 0, HEAD = 0 } = constants;
    const format = this.isLong ? FORMAT : Math.min(FORMAT, 1);
    const head = this.isLong ? ` of heads of ${HEAD}` : "";
    // product_tiled_odd.wgsl writes in another way, and is the same otherwise.
    const base = kernel.name.replace(/_odd$/, "");
    const direction = entry.startsWith("grad") ? "gradients" : "forward";
    const options = Object.entries(constants)
      .filter(([constant]) => OPTION.test(constant))
      .map((pair) => `${base}, ${direction}: ${pair.join("=")}`);
    return [
      kernel.name,
      `${base}: ${name}`,
      `${entryName(base, entry, constants)}${head}`,
      `${base} of format ${format}`,
      ...options,
    ];
  }
}
