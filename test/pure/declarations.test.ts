import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { beforeAll, describe, expect, it } from "vitest";
import * as analysis from "safetape/analysis";
import * as core from "safetape/core";
import * as data from "safetape/data";
import * as engine from "safetape/engine";
import { FileFormatError } from "safetape/engine";
import * as gguf from "safetape/gguf";
import * as main from "safetape";
import * as metrics from "safetape/metrics";
import * as models from "safetape/models";
import * as preference from "safetape/preference";
import { ENTRIES, nodeFileOf } from "../../scripts/subpaths.mjs";
import * as everything from "../../src/node/everything";
import { readDeclarations } from "../support/declarations";
import type { Declarations } from "../support/declarations";
import { failure } from "../support/failure";
import { publishedFolder } from "../support/published";

// A name that two entries give to different things is left out where both are exported whole, without a word.
it.each(Object.entries({ main, analysis, core, data, engine, gguf, metrics, models, preference }))(
  "every name of %s is in the module of a checkout's entries",
  (_, entry) => {
    const missing = Object.keys(entry).filter((name) => !(name in everything));
    expect(missing).toEqual([]);
  },
);

it("the module of a checkout's entries has the main entry's meaning of each name", () => {
  const all: Readonly<Record<string, unknown>> = { ...everything };
  const other = Object.entries(main).filter(([name, value]) => all[name] !== value);
  expect(other.map(([name]) => name)).toEqual([]);
});

let declared: Declarations;
beforeAll(() => {
  const folder = publishedFolder();
  declared = readDeclarations(
    ENTRIES.flatMap((name) => [name, nodeFileOf(name)]).map((n) => join(folder, `${n}.d.ts`)),
  );
}, 60_000);

it("every type that a public signature names is exported", () => {
  expect(declared.hidden.map(({ type, where }) => `${type} in ${where}`)).toEqual([]);
});

describe("a directory", () => {
  type Place = string | URL;
  type Call = (place: Place) => unknown;
  // Arguments after the directory are looked at only where there is one.
  const others = {} as never;
  const READERS: Readonly<Record<string, Call>> = {
    "WeightedAdapter.adapter": (adapter) => analysis.mergeAdapters([{ adapter }], data.memoryDirectory("out")),
    "ImageFile.directory": (directory) => data.readImages([{ directory, file: "x", label: 0 }], others),
    "InitialiseOptions.directory": (directory) => core.initialiseModel(others, {}, { directory }),
    exportGgufAdapter: (place) => gguf.exportGgufAdapter(place, { model: place, directory: place }),
    exportGgufModel: (place) => gguf.exportGgufModel(place, { directory: place }),
    mergeIntoModel: (place) => analysis.mergeIntoModel(place, place, data.memoryDirectory("out")),
    loadAdapter: (place) => core.loadAdapter(place, others),
    loadChatTemplate: (place) => data.loadChatTemplate(place),
    loadModel: (place) => core.loadModel(others, place),
    loadTokenizer: (place) => data.loadTokenizer(place),
    readAgNews: (place) => data.readAgNews(place, "x"),
    readBlocks: (place) => data.readBlocks(place, "x", others, others),
    readCifar: (place) => data.readCifar(place, "x", 10),
    readConversations: (place) => data.readConversations(place, "x"),
    readE2e: (place) => data.readE2e(place, "x"),
    readGlue: (place) => data.readGlue(place, "x", "sst2"),
    readIdx: (place) => data.readIdx(place, "x", "y", others),
    readImageFolder: (place) => data.readImageFolder([place], others),
    readImageList: (place) => data.readImageList(place, "x", "csv"),
    readPairs: (place) => data.readPairs(place, "x"),
    readPreferences: (place) => preference.readPreferences(place, "x"),
    readPreprocessor: (place) => data.readPreprocessor(place),
    readRunRecord: (place) => analysis.readRunRecord(place),
    readSamsum: (place) => data.readSamsum(place, "x"),
    readSquad: (place) => data.readSquad(place, "x"),
    readTagNames: (place) => data.readTagNames(place, "x"),
    readTagged: (place) => data.readTagged(place, "x"),
    readWordNet: (place) => metrics.readWordNet(place),
  };
  /** What test/runs/directories.test.ts tries. */
  const WITH_A_TRAINER = [
    "CheckpointOptions.directory",
    "CheckpointOptions.resume",
    "ClassifyOptions.adapter",
    "Trainer.saveCheckpoint",
    "saveAdapter",
    "saveMerged",
    "saveModel",
    "saveReport",
  ];

  /** What test/pure/gguf.test.ts tries. */
  const OF_GGUF = ["GgufAdapterOptions.directory", "GgufAdapterOptions.model", "GgufModelOptions.directory"];

  /** What test/pure/merge-adapters.test.ts tries. */
  const OF_MERGING = ["mergeAdapters"];

  it("is taken as an object, a path or an address by everything that takes one", () => {
    // A function is named without its parameter, a member of an interface with it.
    const nameOf = (where: string): string => where.replace(/^([a-z]\w*|Trainer\.saveCheckpoint)\..*/, "$1");
    const taking = (kind: string): string[] => [
      ...new Set([...declared.places].filter(([, type]) => type === kind).map(([where]) => nameOf(where))),
    ];
    expect(taking("Directory").sort(), "what returns a directory").toEqual([
      "DirectoryLike",
      "LoadedModel.directory",
      "fetchDirectory",
      "memoryDirectory",
      "openDirectory",
    ]);
    expect(taking("DirectoryLike").sort()).toEqual(
      [...Object.keys(READERS), ...WITH_A_TRAINER, ...OF_GGUF, ...OF_MERGING].sort(),
    );
  });

  it.each(Object.entries(READERS))("is read from a path and a file: address by %s", async (_, read) => {
    const path = join(process.cwd(), "no-such-directory");
    for (const place of [path, pathToFileURL(path)]) {
      const error = await failure(() => read(place), FileFormatError);
      expect(error.fact).toBe(`no directory at ${path}`);
    }
  });
});
