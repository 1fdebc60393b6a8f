import { resolve } from "node:path";
import { pathToFileURL } from "node:url";
import type * as BundleProgram from "../../scripts/bundle-program.mjs";
import type * as EnsureNats from "../../scripts/ensure-nats.mjs";

/**
 * Imports a script of this repository as it is. Within a bundle it would be another file, which does not find the repository. Programs
 * and tests run in the repository's root.
 */
const fromRoot = (file: string): Promise<unknown> => import(pathToFileURL(resolve(file)).href);

/** Bundles a program of this repository, and returns the bundle's path. */
export async function bundled(program: string): Promise<string> {
  // The compiler cannot know what a computed path exports.
  const { bundleProgram } = (await fromRoot("scripts/bundle-program.mjs")) as typeof BundleProgram;
  return bundleProgram(program);
}

/** The NATS server of this machine, or why there is none. */
export async function natsServer() {
  // As above.
  const { ensureNats } = (await fromRoot("scripts/ensure-nats.mjs")) as typeof EnsureNats;
  return ensureNats();
}
