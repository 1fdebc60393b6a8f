import { randomUUID } from "node:crypto";
import { readlinkSync, unlinkSync } from "node:fs";
import { open, readdir, readFile, rm } from "node:fs/promises";
import type { FileHandle } from "node:fs/promises";
import { hostname } from "node:os";
import { join } from "node:path";

/** A claim without a sign of life for this long belongs to a worker that died. */
const STALE_SECONDS = 120;
const HEARTBEAT_SECONDS = 15;

/** Who holds a claim, as its file says. */
interface Holder {
  readonly host: string;
  /** Number of the process in the process table of `processes`. */
  readonly pid: number;
  /** The process table: containers of one host have several. */
  readonly processes: string;
  /** Last sign of life in ISO 8601, by the holder's own clock. */
  readonly heartbeat: string;
  readonly token: string;
}

/**
 * Claims of cells in a directory that several workers share, also over a network. A claim is a file that exactly one worker
 * can create (O_EXCL). It has a generation: the claim of a worker that died is not removed, but superseded by the
 * next generation, which again exactly one worker can create. The highest generation holds the cell.
 */
export class Claims {
  constructor(
    private readonly path: string,
    private readonly staleSeconds = STALE_SECONDS,
  ) {}

  /** Claims a cell. Undefined where a live worker holds it. The caller looks for a result once more after this. */
  async take(cell: string): Promise<Claim | undefined> {
    const before = await this.#latest(cell);
    const stale = before === undefined ? undefined : await this.#staleToken(cell, before);
    if (before !== undefined && stale === undefined) return undefined;
    const generation = (before ?? 0) + 1;
    const claim = await Claim.create(this.path, cell, generation);
    if (!claim) return undefined;
    // Others may have come and gone since the look at the directory: what was superseded must still be the same.
    const isSame = before === undefined || (await this.#staleToken(cell, before)) === stale;
    if (isSame && (await this.#latest(cell)) === generation) return claim;
    await claim.withdraw();
    return undefined;
  }

  /** Who holds a cell, in words; undefined if nobody does. */
  async holder(cell: string): Promise<string | undefined> {
    const latest = await this.#latest(cell);
    if (latest === undefined || (await this.#staleToken(cell, latest)) !== undefined) return undefined;
    const holder = await readHolder(join(this.path, claimFile(cell, latest)));
    return holder ? `process ${holder.pid} on ${holder.host}` : "another process";
  }

  async #latest(cell: string): Promise<number | undefined> {
    const generations = await generationsOf(this.path, cell);
    return generations.length > 0 ? Math.max(...generations) : undefined;
  }

  /** The token of a claim whose holder died, or "" where the claim is gone; undefined for a claim that is held. */
  async #staleToken(cell: string, generation: number): Promise<string | undefined> {
    const file = join(this.path, claimFile(cell, generation));
    const modified = await timeModified(file);
    if (modified === undefined) return "";
    const holder = await readHolder(file);
    const hasDied = holder !== undefined && isGone(holder);
    const isSilent = (await this.#now()) - modified > 1000 * this.staleSeconds;
    return hasDied || isSilent ? (holder?.token ?? "unreadable") : undefined;
  }

  /** The time by the clock of the file system, which all workers share. */
  async #now(): Promise<number> {
    const file = join(this.path, `.clock-${randomUUID()}`);
    const handle = await open(file, "wx");
    try {
      return (await handle.stat()).mtimeMs;
    } finally {
      await handle.close();
      await rm(file, { force: true });
    }
  }
}

/** A claim that this process holds. It shows a sign of life every few seconds until it is released. */
export class Claim {
  readonly #timer: NodeJS.Timeout;

  private constructor(
    private readonly path: string,
    private readonly cell: string,
    private readonly generation: number,
    private readonly handle: FileHandle,
    private readonly token: string,
  ) {
    this.#timer = setInterval(() => void this.#beat().catch(() => undefined), 1000 * HEARTBEAT_SECONDS);
    this.#timer.unref();
  }

  /** Undefined where another worker was first. */
  static async create(path: string, cell: string, generation: number): Promise<Claim | undefined> {
    const handle = await open(join(path, claimFile(cell, generation)), "wx").catch((error: unknown) => {
      if (error instanceof Error && "code" in error && error.code === "EEXIST") return undefined;
      throw error;
    });
    if (!handle) return undefined;
    const claim = new Claim(path, cell, generation, handle, randomUUID());
    await claim.#beat();
    return claim;
  }

  /** Whether no other worker took the cell over, as it may where this process slept for long. */
  async isHeld(): Promise<boolean> {
    const holder = await readHolder(join(this.path, claimFile(this.cell, this.generation)));
    const generations = await generationsOf(this.path, this.cell);
    return holder?.token === this.token && Math.max(...generations) === this.generation;
  }

  /** Removes this claim alone. */
  async withdraw(): Promise<void> {
    clearInterval(this.#timer);
    await this.handle.close();
    await rm(join(this.path, claimFile(this.cell, this.generation)), { force: true });
  }

  /** Gives the cell up: removes this claim and those that it superseded. */
  async release(): Promise<void> {
    clearInterval(this.#timer);
    await this.handle.close();
    const generations = await generationsOf(this.path, this.cell);
    const upToThis = generations.filter((generation) => generation <= this.generation);
    for (const generation of upToThis.sort((a, b) => a - b)) {
      await rm(join(this.path, claimFile(this.cell, generation)), { force: true });
    }
  }

  /** Gives the cell up while the process ends. */
  releaseNow(): void {
    unlinkSync(join(this.path, claimFile(this.cell, this.generation)));
  }

  /** The line keeps its length, so that a reader never sees half of it. The file stays this claim's own if it was superseded. */
  async #beat(): Promise<void> {
    const { token } = this;
    const heartbeat = new Date().toISOString();
    const holder: Holder = { host: hostname(), pid: process.pid, processes: processTable(), heartbeat, token };
    await this.handle.write(`${JSON.stringify(holder)}\n`, 0);
  }
}

const claimFile = (cell: string, generation: number): string => `${cell}.claim-${generation}`;

async function generationsOf(path: string, cell: string): Promise<number[]> {
  const start = `${cell}.claim-`;
  const names = (await readdir(path)).filter((name) => name.startsWith(start));
  return names.map((name) => Number(name.slice(start.length))).filter(Number.isInteger);
}

/** When a file was modified, in ms since 1970; undefined where it is gone. */
async function timeModified(file: string): Promise<number | undefined> {
  // Opened before it is looked at, since network file systems renew what they know of a file when it is opened.
  const handle = await open(file, "r").catch(() => undefined);
  if (!handle) return undefined;
  try {
    return (await handle.stat()).mtimeMs;
  } finally {
    await handle.close();
  }
}

/** Undefined for a claim that is being written, or gone. */
async function readHolder(file: string): Promise<Holder | undefined> {
  const text = await readFile(file, "utf8").catch(() => "");
  try {
    // Only claims have such names, and claims are written as holders.
    return JSON.parse(text) as Holder;
  } catch {
    return undefined;
  }
}

/** Whether the process ran in this process table, and does no longer. */
function isGone({ host, pid, processes }: Holder): boolean {
  if (host !== hostname() || processes !== processTable()) return false;
  try {
    process.kill(pid, 0);
    return false;
  } catch (error) {
    return error instanceof Error && "code" in error && error.code === "ESRCH";
  }
}

function processTable(): string {
  try {
    return readlinkSync("/proc/self/ns/pid");
  } catch {
    return "";
  }
}
