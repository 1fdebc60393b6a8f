import { createLogUpdate } from "log-update";
import { createColors } from "picocolors";

type Stream = NodeJS.WriteStream;

/** Least time between two drawings of the live block. */
const FRAME_MILLISECONDS = 80;

/**
 * Shows on stderr what the command is doing: in a terminal a live block below the printed lines, elsewhere only lines,
 * and nothing if quiet. The block consists of named parts: an evaluation shows its progress below that of the training.
 */
export class Screen {
  readonly isLive: boolean;
  readonly colours: ReturnType<typeof createColors>;
  readonly #live: ReturnType<typeof createLogUpdate>;
  readonly #parts = new Map<string, readonly string[]>();
  #drawn = 0;

  constructor(
    readonly isQuiet: boolean,
    private readonly stream: Stream = process.stderr,
  ) {
    this.isLive = !isQuiet && stream.isTTY && process.env["TERM"] !== "dumb";
    // hasColors takes NO_COLOR, FORCE_COLOR and the terminal into account.
    this.colours = createColors(this.isLive && stream.hasColors());
    this.#live = createLogUpdate(stream);
  }

  get columns(): number {
    return Math.min(this.stream.columns || 80, 110);
  }

  /** Shows a part of the live block, or removes it if there are no lines. Does nothing outside a terminal. */
  show(part: string, lines: readonly string[] | undefined): void {
    if (!this.isLive) return;
    if (lines) this.#parts.set(part, lines);
    else this.#parts.delete(part);
    if (lines && performance.now() - this.#drawn < FRAME_MILLISECONDS) return;
    this.#draw();
  }

  /** Prints a line that stays, above the live block. */
  say(line: string): void {
    if (this.isQuiet) return;
    if (this.isLive) this.#live.clear();
    this.stream.write(`${line}\n`);
    if (this.#parts.size > 0) this.#draw();
  }

  #draw(): void {
    this.#drawn = performance.now();
    if (this.#parts.size > 0) this.#live([...this.#parts.values()].flat().join("\n"));
    else this.#live.clear();
  }

  /** Leaves the live block as it is, and shows the cursor again. */
  end(): void {
    if (!this.isLive) return;
    if (this.#parts.size > 0) this.#draw();
    this.#parts.clear();
    this.#live.done();
  }
}
