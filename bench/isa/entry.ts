/**
 * What limits a launch: `product` and `narrow product` (a side below 128, such as a LoRA's rank) and `attention` by
 * arithmetic, `memory` by global memory, `small` by neither.
 */
export type Kind = "product" | "narrow product" | "attention" | "memory" | "small";

/** What an entry is dispatched for. */
export interface Use {
  readonly kind: Kind;
  /** Formats and layouts, as `LaunchShape` has them. */
  readonly traits: readonly string[];
  /**
   * `step`: real steps dispatch it. `bench`: a bench case of an op does, `case`: only small cases do. `variant`: nothing does,
   * since another variant is chosen.
   */
  readonly origin: "step" | "bench" | "case" | "variant";
  /** The first step or case that has it. */
  readonly of: string;
}

/** An entry of a kernel with its constants, and all that it is dispatched for. */
export interface Entry {
  readonly kernel: string;
  readonly entry: string;
  readonly constants: Readonly<Record<string, number>>;
  readonly uses: readonly Use[];
}

/** The constants in one line, such as "TILE_M=8 TILE_N=8". */
export const constantsOf = ({ constants }: Pick<Entry, "constants">): string =>
  Object.entries(constants)
    .map((pair) => pair.join("="))
    .join(" ");
