import type { Bytes, FixedFreeze } from "../../src/index";

/** What the page and Node both train. */
export interface BrowserRun {
  readonly config: Readonly<Record<string, unknown>>;
  readonly samples: readonly { readonly ids: readonly number[]; readonly label: number }[];
  readonly freezes: readonly FixedFreeze[];
  readonly steps: number;
}

export interface Told {
  readonly losses: readonly number[];
  readonly planned: Bytes;
  readonly live: Bytes;
  /** What was found in a cache of tuned kernels. */
  readonly cached: readonly unknown[];
  /** Bytes live when all is disposed of. */
  readonly left: number;
}
