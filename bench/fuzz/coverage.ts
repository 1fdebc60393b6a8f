import { readFileSync } from "node:fs";
import { Session } from "node:inspector";
import type { Profiler } from "node:inspector";
import { pathToFileURL } from "node:url";

/** Bounds of the buckets of a block's count. A loop that runs once more is a new feature only if it enters a new bucket. */
const BOUNDS = [1, 2, 3, 4, 8, 16, 32, 128];
const bucket = (count: number): number => BOUNDS.filter((bound) => count >= bound).length;

/**
 * The blocks of the library's modules that ran, by V8's precise coverage. Create it before the library is loaded: V8 counts
 * the blocks only of functions that it compiles afterwards. The fuzzer is in the same bundle as the library; modules are
 * distinguished by the comments that the bundler writes before each.
 */
export class Coverage {
  readonly #session = new Session();
  readonly #url: string;
  readonly #source: string;
  readonly #modules: readonly { readonly at: number; readonly file: string }[];
  readonly #seen = new Set<string>();
  /** For each function, which of its characters ran. */
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

  /** Number of features so far. A feature is a block together with the bucket of its count. */
  get features(): number {
    return this.#seen.size;
  }

  /** Ignores what ran since the last call. */
  skip(): void {
    this.#takeFunctions();
  }

  /** Number of new features in what ran since the last call. */
  countNew(): number {
    const before = this.#seen.size;
    const functions = this.#takeFunctions();
    for (const { ranges } of functions) {
      for (const { startOffset, endOffset, count } of ranges) {
        this.#seen.add(`${startOffset}-${endOffset}:${bucket(count)}`);
      }
    }
    // Coverage can only have grown if there is a new feature.
    if (this.#seen.size > before) for (const { ranges } of functions) this.#cover(ranges);
    return this.#seen.size - before;
  }

  /** Functions of the library that ran, the characters of their source, and the number of characters that ran. */
  report(): { readonly functions: number; readonly characters: number; readonly covered: number } {
    const all = [...this.#covered.values()];
    const count = (ran: Uint8Array): number => ran.reduce((sum, bit) => sum + bit, 0);
    return {
      functions: all.length,
      characters: all.reduce((sum, ran) => sum + ran.length, 0),
      covered: all.reduce((sum, ran) => sum + count(ran), 0),
    };
  }

  /** Marks the characters of a function that ran. The count of an inner range replaces that of the range around it. */
  #cover(ranges: readonly Profiler.CoverageRange[]): void {
    const { startOffset: start = 0, endOffset: end = 0 } = ranges[0] ?? {};
    const runNow = new Uint8Array(end - start);
    for (const { startOffset, endOffset, count } of ranges) {
      runNow.fill(count > 0 ? 1 : 0, startOffset - start, endOffset - start);
    }
    const key = `${start}-${end}`;
    const ran = this.#covered.get(key) ?? new Uint8Array(end - start);
    runNow.forEach((bit, i) => (ran[i]! |= bit));
    this.#covered.set(key, ran);
  }

  /** Functions of the library that ran since the last call. */
  #takeFunctions(): Profiler.FunctionCoverage[] {
    // The protocol's answer to this method.
    const { result } = this.#post("Profiler.takePreciseCoverage") as Profiler.TakePreciseCoverageReturnType;
    const functions = result.filter(({ url }) => url === this.#url).flatMap((script) => script.functions);
    return functions.filter(({ ranges }) => this.#moduleAt(ranges[0]?.startOffset ?? 0).startsWith("src/"));
  }

  #moduleAt(offset: number): string {
    return this.#modules.findLast(({ at }) => at <= offset)?.file ?? "";
  }

  #post(method: string, parameters: object = {}): unknown {
    let answer: unknown;
    // A session in the same thread calls back before `post` returns.
    this.#session.post(method, parameters, (error, result) => {
      if (error) throw error;
      answer = result;
    });
    return answer;
  }
}
