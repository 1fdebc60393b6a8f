import { readFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { join } from "node:path";
import * as v from "valibot";
import { version } from "../../package.json";

const PACKAGE = v.object({ version: v.string() });

/** Versions of safetape, Node and `webgpu`, for the record of a run. */
export async function versions(): Promise<Record<string, string>> {
  const webgpu = await versionOf("webgpu");
  return { safetape: version, node: process.version, ...(webgpu !== undefined && { webgpu }) };
}

/** The version of a package that is installed for the current directory; undefined if there is none. */
async function versionOf(name: string): Promise<string | undefined> {
  try {
    // createRequire needs the path of a file, which does not have to exist.
    const path = createRequire(join(process.cwd(), "any.js")).resolve(`${name}/package.json`);
    return v.parse(PACKAGE, JSON.parse(await readFile(path, "utf8"))).version;
  } catch {
    return undefined;
  }
}
