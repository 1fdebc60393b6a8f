import { bar, clock } from "./bars";
import type { Emit } from "./events";
import type { Screen } from "./screen";

/** Told how much is done, and of how much. */
export type Tick = (done: number, of: number) => void;

/** Work that is over sooner needs no progress. */
const SILENT_MILLISECONDS = 1000;
/** Lines outside of a terminal are at least so far apart, in time and in what is done. */
const APART_MILLISECONDS = 2000;
const APART_SHARE = 0.1;

/** Runs a piece of work and shows how far it is, as soon as it takes more than a second. */
export async function stage<T>(screen: Screen, emit: Emit, what: string, work: (tick: Tick) => Promise<T>): Promise<T> {
  const progress = new StageProgress(screen, emit, what);
  try {
    return await work((done, of) => progress.tick(done, of));
  } finally {
    progress.end();
  }
}

/** Runs a piece of work as a stage. */
export type Stages = <T>(what: string, work: (tick: Tick) => Promise<T>) => Promise<T>;

/** Stages that people alone are told of. */
export const stagesOn =
  (screen: Screen): Stages =>
  (what, work) =>
    stage(screen, () => undefined, what, work);

class StageProgress {
  readonly #start = performance.now();
  readonly #timer: NodeJS.Timeout;
  #at: { readonly done: number; readonly of: number } | undefined;
  #told = { time: this.#start, share: 0 };

  constructor(
    private readonly screen: Screen,
    private readonly emit: Emit,
    private readonly what: string,
  ) {
    // Work that tells nothing is seen to run on, too.
    this.#timer = setInterval(() => this.#show(), 250);
    this.#timer.unref();
  }

  tick(done: number, of: number): void {
    this.#at = { done, of };
    this.#show();
  }

  end(): void {
    clearInterval(this.#timer);
    this.screen.show(this.what, undefined);
  }

  get #share(): number {
    return this.#at && this.#at.of > 0 ? this.#at.done / this.#at.of : 0;
  }

  #show(): void {
    const elapsed = performance.now() - this.#start;
    if (elapsed < SILENT_MILLISECONDS) return;
    const seconds = elapsed / 1000;
    this.screen.show(this.what, [this.#line(seconds)]);
    const { time, share } = this.#told;
    const isFirst = share === 0 && time === this.#start;
    const isApart = performance.now() - time >= APART_MILLISECONDS && this.#share - share >= APART_SHARE;
    if (!isFirst && !isApart) return;
    this.#told = { time: performance.now(), share: this.#share };
    this.emit({ type: "progress", what: this.what, seconds, ...this.#at });
    if (!this.screen.isLive) this.screen.say(this.#plain());
  }

  #plain(): string {
    return this.#at ? `${this.what}: ${Math.floor(100 * this.#share)} %` : `${this.what} ...`;
  }

  #line(seconds: number): string {
    if (!this.#at) return `${this.what} ... ${clock(seconds)}`;
    const share = this.#share;
    const left = share > 0.02 ? `  ${clock((seconds / share) * (1 - share))} left` : "";
    return `${this.what} ${bar(share, 24)} ${Math.floor(100 * share)} %${left}`;
  }
}
