import { createLogUpdate } from "log-update";
import { createColors } from "picocolors";

type Stream = NodeJS.WriteStream;

/** Drawing more often than this would only cost time. */
const FRAME_MILLISECONDS = 80;

/**
 * What people see on stderr while something runs: in a terminal one live block at its end, elsewhere lines; nothing when
 * quiet. Blocks are made of named parts, so that an evaluation can show its own progress below the training's.
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
    // Node itself knows what NO_COLOR, FORCE_COLOR and the terminal say.
    this.colours = createColors(this.isLive && stream.hasColors());
    this.#live = createLogUpdate(stream);
  }

  get columns(): number {
    return Math.min(this.stream.columns || 80, 110);
  }

  /** Shows a part of the live block, or takes it away; without a terminal nothing happens. */
  show(part: string, lines: readonly string[] | undefined): void {
    if (!this.isLive) return;
    if (lines) this.#parts.set(part, lines);
    else this.#parts.delete(part);
    if (lines && performance.now() - this.#drawn < FRAME_MILLISECONDS) return;
    this.#draw();
  }

  /** A line that stays. */
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

  /** Leaves the block as it stands, and gives the cursor back. */
  end(): void {
    if (!this.isLive) return;
    if (this.#parts.size > 0) this.#draw();
    this.#parts.clear();
    this.#live.done();
  }
}
