import { setTimeout as pause } from "node:timers/promises";
import type { WandbRun } from "@wandb/sdk";
import { ConfigError } from "../base/errors";

/** Milliseconds after which the service counts as out of reach. */
const PATIENCE = 60_000;

/** Signals on which the client ends the process, before a run could be saved. */
const SIGNALS = ["SIGINT", "SIGTERM"] as const;

/** What is said of a run in Weights & Biases. */
interface WandbFacts {
  readonly title: string;
  readonly command: string | undefined;
  readonly options: object;
  readonly step: number;
}

/**
 * Logs a run to Weights & Biases by the npm package `@wandb/sdk`, an optional dependency. WANDB_API_KEY is the key, WANDB_PROJECT and
 * WANDB_ENTITY say where (default: the project safetape, the key's own entity), WANDB_BASE_URL names another server. A resumed run begins a
 * new one there, as the client cannot continue one. What a request that fails should have sent is lost: the client does not repeat it.
 * @throws ConfigError as `wandbClient` does, and where no run can be begun.
 */
export async function trackByWandb({ title, command, options, step }: WandbFacts) {
  const wandb = await wandbClient();
  const { WANDB_PROJECT: project, WANDB_ENTITY: entity } = process.env;
  const earlier = new Map(SIGNALS.map((signal) => [signal, process.listeners(signal)]));
  const config = { ...options, command, firstStep: step + 1 };
  const run = await begun(() =>
    wandb.init({
      project: project || "safetape",
      ...(entity && { entity }),
      name: title,
      config,
      settings: { silent: true },
    }),
  );
  for (const [signal, listeners] of earlier) {
    const added = process.listeners(signal).filter((listener) => !listeners.includes(listener));
    for (const listener of added) process.off(signal, listener);
  }
  return {
    log: (at: number, scalars: Readonly<Record<string, number>>) => run.log({ ...scalars }, at),
    end: () => inTime(run.finish(), "it does not take the end of the run"),
  };
}

/** The client. @throws ConfigError where the package or the key is missing. */
export async function wandbClient() {
  if (!process.env["WANDB_API_KEY"]) {
    throw new ConfigError(
      "Weights & Biases needs an API key, and WANDB_API_KEY is not set.",
      "Set it, or leave out --report-to wandb.",
    );
  }
  const { default: wandb } = await import("@wandb/sdk").catch((cause: unknown) => {
    throw new ConfigError(
      "The npm package `@wandb/sdk`, the client of Weights & Biases, cannot be loaded.",
      "Run `npm install @wandb/sdk`, or leave out --report-to wandb.",
      { cause },
    );
  });
  return wandb;
}

/**
 * A run that is begun. The client writes on the console why none is, throws a consequence of it where nothing can catch it, twice, and tries
 * other failures again for twenty minutes.
 */
async function begun(init: () => Promise<WandbRun>): Promise<WandbRun> {
  const { error: write } = console;
  let said: string | undefined;
  // oxlint-disable-next-line no-console -- the client has no other way to say it, and says it with its query, over many lines
  console.error = (message: unknown) => void (said ??= String(message).replace(/:\s*$/, ""));
  const thrown = new Promise<never>((_, reject) => process.setUncaughtExceptionCaptureCallback(reject));
  try {
    const run = await inTime(Promise.race([init(), thrown]), "it does not answer");
    process.setUncaughtExceptionCaptureCallback(null);
    return run;
  } catch (cause) {
    // What is still thrown belongs to the error below.
    process.setUncaughtExceptionCaptureCallback(null);
    process.setUncaughtExceptionCaptureCallback(() => undefined);
    const [reason] = (said ?? (cause instanceof Error ? cause.message : String(cause))).split("\n", 1);
    throw new ConfigError(
      `Weights & Biases begins no run: ${reason}.`,
      "Check WANDB_API_KEY, WANDB_ENTITY, WANDB_PROJECT and WANDB_BASE_URL.",
      { cause },
    );
  } finally {
    // oxlint-disable-next-line no-console -- see above
    console.error = write;
  }
}

/** @throws Error where work takes too long. */
async function inTime<T>(work: Promise<T>, otherwise: string): Promise<T> {
  const stop = new AbortController();
  const late = pause(PATIENCE, undefined, { signal: stop.signal }).then(() => Promise.reject(new Error(otherwise)));
  late.catch(() => undefined);
  try {
    return await Promise.race([work, late]);
  } finally {
    stop.abort();
  }
}
