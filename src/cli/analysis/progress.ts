import { SingleBar } from "cli-progress";
import type { Given } from "../options";

/** Lines of a piece of work where there is no terminal. */
const LINES = 10;

/** How far a piece of work is, on stderr: a bar in a terminal, some lines elsewhere, nothing with `--quiet`. */
export class Progress {
  #bar: SingleBar | undefined;
  #told = -1;

  constructor(
    private readonly title: string,
    private readonly given: Given,
  ) {}

  show(done: number, of: number, told = ""): void {
    if (this.given["quiet"]) return;
    if (process.stderr.isTTY) {
      this.#bar ??= this.#startBar(of);
      this.#bar.update(done, { told });
      return;
    }
    const tenth = Math.floor((LINES * done) / of);
    if (tenth === this.#told && done < of) return;
    this.#told = tenth;
    process.stderr.write(`${this.title}: ${done}/${of}  ${told}`.trimEnd() + "\n");
  }

  #startBar(of: number): SingleBar {
    const bar = new SingleBar({
      format: `${this.title} {bar} {value}/{total} {eta_formatted} {told}`,
      stream: process.stderr,
    });
    bar.start(of, 0, { told: "" });
    return bar;
  }

  [Symbol.dispose](): void {
    this.#bar?.stop();
  }
}
