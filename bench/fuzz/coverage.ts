import { readFileSync } from "node:fs";
import { Session } from "node:inspector";
import type { Profiler } from "node:inspector";
import { pathToFileURL } from "node:url";

/** Counts of a block that are told apart: a loop that runs once more is news only at these. */
const STEPS = [1, 2, 3, 4, 8, 16, 32, 128];
const bucket = (count: number): number => STEPS.filter((step) => count >= step).length;

/**
 * To be made before anything of the library runs: V8 counts blocks only of functions that it compiles afterwards.
 *
 * Which blocks of the library's own modules ran, by V8's precise coverage. The fuzzer is in the same bundle: modules are told
 * apart by the comments that the bundler puts before each.
 */
export class Coverage {
  readonly #session = new Session();
  readonly #url: string;
  readonly #source: string;
  readonly #modules: readonly { readonly at: number; readonly file: string }[];
  readonly #seen = new Set<string>();
  /** By function: which of its characters ran. */
  readonly #covered = new Map<string, Uint8Array>();

  constructor(bundle: string) {
    this.#url = pathToFileURL(bundle).href;
    this.#source = readFileSync(bundle, "utf8");
    this.#modules = [...this.#source.matchAll(/^\/\/ (\S+\.(?:ts|wgsl|mjs))$/gm)].map(({ index, 1: file }) => {
      return { at: index, file: file! };
    });
    this.#session.connect();
    this.#post("Profiler.enable");
    this.#post("Profiler.startPreciseCoverage", { callCount: true, detailed: true });
  }

  /** Combinations of a block and how often it ran, so far. */
  get features(): number {
    return this.#seen.size;
  }

  /** Passes over what ran since the last call. */
  skip(): void {
    this.#take();
  }

  /** How many features are new in what ran since the last call. */
  news(): number {
    const before = this.#seen.size;
    const functions = this.#take();
    for (const { ranges } of functions) {
      for (const { startOffset, endOffset, count } of ranges) {
        this.#seen.add(`${startOffset}-${endOffset}:${bucket(count)}`);
      }
    }
    // What is covered can only have grown where something is new.
    if (this.#seen.size > before) for (const { ranges } of functions) this.#cover(ranges);
    return this.#seen.size - before;
  }

  /** Functions of the library that ran, their characters, and how many of those did. */
  report(): { readonly functions: number; readonly characters: number; readonly covered: number } {
    const all = [...this.#covered.values()];
    const count = (ran: Uint8Array): number => ran.reduce((sum, one) => sum + one, 0);
    return {
      functions: all.length,
      characters: all.reduce((sum, ran) => sum + ran.length, 0),
      covered: all.reduce((sum, ran) => sum + count(ran), 0),
    };
  }

  /** An inner range's count replaces that of the range around it. */
  #cover(ranges: readonly Profiler.CoverageRange[]): void {
    const { startOffset: start = 0, endOffset: end = 0 } = ranges[0] ?? {};
    const now = new Uint8Array(end - start);
    for (const { startOffset, endOffset, count } of ranges) {
      now.fill(count > 0 ? 1 : 0, startOffset - start, endOffset - start);
    }
    const key = `${start}-${end}`;
    const ran = this.#covered.get(key) ?? new Uint8Array(end - start);
    now.forEach((one, i) => (ran[i]! |= one));
    this.#covered.set(key, ran);
  }

  /** Functions of the library that ran since the last call. */
  #take(): Profiler.FunctionCoverage[] {
    const { result } = this.#post("Profiler.takePreciseCoverage") as Profiler.TakePreciseCoverageReturnType;
    const functions = result.filter(({ url }) => url === this.#url).flatMap((script) => script.functions);
    return functions.filter(({ ranges }) => this.#moduleAt(ranges[0]?.startOffset ?? 0).startsWith("src/"));
  }

  #moduleAt(offset: number): string {
    return this.#modules.findLast(({ at }) => at <= offset)?.file ?? "";
  }

  #post(method: string, parameters: object = {}): unknown {
    let answer: unknown;
    // Within one thread the answer comes before `post` returns.
    this.#session.post(method, parameters, (error, result) => {
      if (error) throw error;
      answer = result;
    });
    return answer;
  }
}
