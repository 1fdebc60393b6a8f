import { readFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { join } from "node:path";
import { version } from "../../package.json";

/** Versions of what a run depends on, for its record. */
export async function versions(): Promise<Record<string, string>> {
  const webgpu = await versionOf("webgpu");
  return { safetape: version, node: process.version, ...(webgpu !== undefined && { webgpu }) };
}

/** The version of a package as the current directory finds it; undefined where it does not. */
async function versionOf(name: string): Promise<string | undefined> {
  try {
    const path = createRequire(join(process.cwd(), "any.js")).resolve(`${name}/package.json`);
    const { version: found } = JSON.parse(await readFile(path, "utf8")) as { version?: string };
    return found;
  } catch {
    return undefined;
  }
}
