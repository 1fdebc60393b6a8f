// The data that the bases are made of, compared with the checksums of the files for which the scripts were written.
import { createHash } from "node:crypto";
import { readFile } from "node:fs/promises";
import { join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { gunzipSync } from "node:zlib";

/** Data sets: where they are unless a variable of the environment says otherwise, how to get them, and SHA-256 of their files. */
const SETS = {
  fashionMnist: {
    variable: "FASHION_MNIST",
    folder: "/usr/share/datasets/fashion-mnist",
    remedy: "Install Debian's dataset-fashion-mnist, or name the folder of its files in FASHION_MNIST.",
    files: {
      "t10k-images-idx3-ubyte.gz": "cc1d090a38ace84dfa1aa66e3ada7c336ef481a96936906477e6dd344da56eaa",
      "t10k-labels-idx1-ubyte.gz": "8d3605d196f4be44669e46906da9733c8131fef761fdbfec72c424d5222f1a05",
      "train-images-idx3-ubyte.gz": "b0564c3eedabfbf835052cff8503ea422014ce006caf5b757f851416ee8300c7",
      "train-labels-idx1-ubyte.gz": "0ae29f65d86684f32d1b9c85147786c547b9c6aebcaf235f0400a0cce308b056",
    },
  },
  texts: {
    variable: "SAFETAPE_DATA",
    folder: fileURLToPath(new URL("../../../shared/data", import.meta.url)),
    remedy: "Name a folder with wikitext2, glue and e2e_nlg in SAFETAPE_DATA.",
    files: {
      "wikitext2/wiki.train.tokens.gz": "9898705f951054e1edec8bfa11490632d413c77711db578434466370f29a4a41",
      "wikitext2/wiki.valid.tokens": "f0737ed31fc1329026e95cb8b98e19c2a182c39c240ab909dc31abf2f8af58e8",
      "glue/CoLA/dev.tsv": "8c013e21dc39957cac37378d87bebe225b694a0d5fe13eded66c2856628833fd",
      "glue/CoLA/train.tsv": "cb368ebeb9f27d7ad03720d27ddc95687a311bdb100781a2fe59a5f5b1bc0624",
      "glue/SST-2/dev.tsv": "54a9c12c77e402fc14d6a66a506f24d999f596b0176eb777c972cccc2f9cc4b0",
      "glue/SST-2/train.tsv": "48eac26399f8456935f81dd9e3a745c1430adb6c62e233ccfe22db4a0d15d1d1",
      "glue/MRPC/dev.tsv": "9e8f284788040f7c9ecde2e1b3c07237c756f926bd9ef8548ef5d34b56f69f17",
      "glue/MRPC/train.tsv": "69abcedee3cf738c6ce58d772e43e1b7cdf5b4edee4aceda459c0d9f4e5599f3",
      "glue/RTE/train.tsv": "41e3a9b063433392343fad9e962cf2f58b681c78d8f71592f4186f0837246c5c",
      "glue/STS-B/dev.tsv": "fe7dc0632a5033562f3cadff991f6e8d9b9b6311861660e78c3c82eb7db67f59",
      "glue/STS-B/train.tsv": "41c4d978b6162abdcada7e49a982211954cca5459c228db478af333124b257a2",
      "e2e_nlg/devset.csv": "fc26b78cdb849c80545f513b223d1e051138b43882eeb79e3eb153e689c864f9",
      "e2e_nlg/testset_w_refs.csv": "edc8db685e39bb9824d5bd70c18b1c9b0412d14b527aa960e2d1c8251ee15ccd",
      "e2e_nlg/trainset.csv.gz": "879551fc2c4b4d00079eb79f3a77ccdb5792e6b1891895faf4e9317420b46d71",
    },
  },
};

/** The folder in which a data set is, and that in which it is unless a variable of the environment says otherwise. */
export function foldersOf(set) {
  const { variable, folder } = SETS[set];
  return { folder: resolve(process.env[variable] ?? folder), usual: resolve(folder) };
}

/**
 * The files of a data set, read whole and decompressed, by name.
 * @throws Error naming a file that is missing, or that is another version.
 */
export async function readData(set, names = Object.keys(SETS[set].files)) {
  const { remedy, files } = SETS[set];
  const { folder } = foldersOf(set);
  const contents = {};
  const checksums = {};
  for (const name of names) {
    const path = join(folder, name);
    const bytes = await readFile(path).catch(({ code }) => {
      throw new Error(`${path} cannot be read (${code}).\n${remedy}`);
    });
    const sum = createHash("sha256").update(bytes).digest("hex");
    if (sum !== files[name]) {
      throw new Error(`${path} is another version: its SHA-256 is ${sum}, not ${files[name]}.\n${remedy}`);
    }
    contents[name] = name.endsWith(".gz") ? gunzipSync(bytes) : bytes;
    checksums[name] = sum;
  }
  return { contents, checksums };
}

/** Where the sentences of GLUE's sets are. */
const GLUE_COLUMNS = {
  "glue/CoLA/train.tsv": [3],
  "glue/SST-2/train.tsv": [0],
  "glue/MRPC/train.tsv": [3, 4],
  "glue/RTE/train.tsv": [1, 2],
  "glue/STS-B/train.tsv": [7, 8],
};

/** Lines of WikiText without its marks for hyphens and decimal points; blank lines and headings are left out. */
const wikiLines = (bytes) =>
  new TextDecoder()
    .decode(bytes)
    .split("\n")
    .map((line) => line.trim().replace(/ @([-,.])@ /g, "$1"))
    .filter((line) => line !== "" && !line.startsWith("="));

/** The training and validation texts of WikiText-2, in paragraphs. */
export async function readWikiText() {
  const names = ["wikitext2/wiki.train.tokens.gz", "wikitext2/wiki.valid.tokens"];
  const { contents, checksums } = await readData("texts", names);
  const [train, dev] = names.map((name) => wikiLines(contents[name]));
  return { train, dev, checksums };
}

/** The sentences of GLUE's training sets, each once, without their labels. */
export async function readGlueSentences() {
  const { contents, checksums } = await readData("texts", Object.keys(GLUE_COLUMNS));
  const sentences = Object.entries(GLUE_COLUMNS).flatMap(([name, columns]) => {
    const rows = new TextDecoder()
      .decode(contents[name])
      .split(/\r?\n/)
      .slice(name.includes("CoLA") ? 0 : 1);
    return rows.flatMap((row) => {
      const cells = row.split("\t");
      return columns.map((column) => cells[column]?.trim() ?? "").filter((text) => text !== "");
    });
  });
  return { sentences: [...new Set(sentences)], checksums };
}
