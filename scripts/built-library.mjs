// @ts-check
// The library of a built checkout, also of one from before the package had subpaths.
import { existsSync } from "node:fs";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

/**
 * The package itself, its core and what reads data, as one object.
 * @param {string} root the checkout's folder
 * @returns {Promise<any>}
 */
export async function builtLibrary(root) {
  const files = ["node-core.js", "node-data.js", "node.js"].map((name) => join(root, "dist", name));
  const modules = files.filter((file) => existsSync(file)).map((file) => import(pathToFileURL(file).href));
  return Object.assign({}, ...(await Promise.all(modules)));
}
