// @ts-check
// Writes the seeds of the corpus: small valid files of every format, and hand-made malicious ones. The bytes are always the
// same.
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

/** Reads a valid file below test/. @param {string} path @returns {Buffer} */
const valid = (path) => readFileSync(`${HERE}../${path}`);

/** Contents by folder and file name. @type {Record<string, Record<string, string | Uint8Array>>} */
const all = { ...safetensorsSeeds(valid), ...runSeeds(), ...jsonSeeds(valid), ...textSeeds(), ...imageSeeds(valid) };

rmSync(`${HERE}seeds`, { recursive: true, force: true });
mkdirSync(`${HERE}seeds`);
// Line endings are part of the inputs, so Git must not convert them.
writeFileSync(`${HERE}seeds/.gitattributes`, "* -text\n");
for (const [folder, files] of Object.entries(all)) {
  mkdirSync(`${HERE}seeds/${folder}`, { recursive: true });
  for (const [name, content] of Object.entries(files)) writeFileSync(`${HERE}seeds/${folder}/${name}`, content);
}
