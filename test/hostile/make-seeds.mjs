// @ts-check
// Writes the corpus' seeds: small valid files of every format, and hand-made evil ones. The same bytes every time.
//
//   node test/hostile/make-seeds.mjs
import { mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { imageSeeds } from "./make-images.mjs";
import { jsonSeeds } from "./make-json.mjs";
import { runSeeds } from "./make-run.mjs";
import { safetensorsSeeds } from "./make-safetensors.mjs";
import { textSeeds } from "./make-text.mjs";

const HERE = fileURLToPath(new URL(".", import.meta.url));

/** @param {string} path a file under test @returns {Buffer} */
const valid = (path) => readFileSync(`${HERE}../${path}`);

/** Folder -> file -> bytes or text. @type {Record<string, Record<string, string | Uint8Array>>} */
const all = { ...safetensorsSeeds(valid), ...runSeeds(), ...jsonSeeds(valid), ...textSeeds(), ...imageSeeds(valid) };

rmSync(`${HERE}seeds`, { recursive: true, force: true });
mkdirSync(`${HERE}seeds`);
// Line ends are part of the inputs.
writeFileSync(`${HERE}seeds/.gitattributes`, "* -text\n");
for (const [folder, files] of Object.entries(all)) {
  mkdirSync(`${HERE}seeds/${folder}`, { recursive: true });
  for (const [name, content] of Object.entries(files)) writeFileSync(`${HERE}seeds/${folder}/${name}`, content);
}
