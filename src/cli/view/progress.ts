import { clock } from "../../report/units";
import { bar } from "./bars";
import type { Emit } from "./events";
import type { Screen } from "./screen";

/** Reports how much of the work is done. */
export type OnProgress = (done: number, total: number) => void;

/** Runs work and shows its progress under a title. */
export type ProgressView = <T>(title: string, work: (onProgress: OnProgress) => Promise<T>) => Promise<T>;

/** Shorter work shows no progress. */
const SILENT_MILLISECONDS = 1000;
/** Outside a terminal, lines are at least this far apart in time and in the share that is done. */
const APART_MILLISECONDS = 2000;
const APART_SHARE = 0.1;

/** Runs work, and shows its progress once it has taken more than a second. */
export async function showProgress<T>(
  screen: Screen,
  emit: Emit,
  title: string,
  work: (onProgress: OnProgress) => Promise<T>,
): Promise<T> {
  const display = new ProgressDisplay(screen, emit, title);
  try {
    return await work((done, total) => display.update(done, total));
  } finally {
    display.end();
  }
}

/** Shows progress on the screen, without events. */
export const progressOn =
  (screen: Screen): ProgressView =>
  (title, work) =>
    showProgress(screen, () => undefined, title, work);

class ProgressDisplay {
  readonly #start = performance.now();
  readonly #timer: NodeJS.Timeout;
  #state: { readonly done: number; readonly of: number } | undefined;
  #lastLine = { time: this.#start, share: 0 };

  constructor(
    private readonly screen: Screen,
    private readonly emit: Emit,
    private readonly title: string,
  ) {
    // Shows the time of work that never reports progress.
    this.#timer = setInterval(() => this.#show(), 250);
    this.#timer.unref();
  }

  update(done: number, total: number): void {
    this.#state = { done, of: total };
    this.#show();
  }

  end(): void {
    clearInterval(this.#timer);
    this.screen.show(this.title, undefined);
  }

  get #share(): number {
    return this.#state && this.#state.of > 0 ? this.#state.done / this.#state.of : 0;
  }

  #show(): void {
    const elapsed = performance.now() - this.#start;
    if (elapsed < SILENT_MILLISECONDS) return;
    const seconds = elapsed / 1000;
    this.screen.show(this.title, [this.#liveLine(seconds)]);
    const { time, share } = this.#lastLine;
    const isFirst = share === 0 && time === this.#start;
    const isApart = performance.now() - time >= APART_MILLISECONDS && this.#share - share >= APART_SHARE;
    if (!isFirst && !isApart) return;
    this.#lastLine = { time: performance.now(), share: this.#share };
    this.emit({ type: "progress", what: this.title, seconds, ...this.#state });
    if (!this.screen.isLive) this.screen.say(this.#plainLine());
  }

  #plainLine(): string {
    return this.#state ? `${this.title}: ${Math.floor(100 * this.#share)} %` : `${this.title} ...`;
  }

  #liveLine(seconds: number): string {
    if (!this.#state) return `${this.title} ... ${clock(seconds)}`;
    const share = this.#share;
    const left = share > 0.02 ? `  ${clock((seconds / share) * (1 - share))} left` : "";
    return `${this.title} ${bar(share, 24)} ${Math.floor(100 * share)} %${left}`;
  }
}
