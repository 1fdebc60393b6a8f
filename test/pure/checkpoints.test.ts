import { chmod, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { describe, expect, it } from "vitest";
import { openDirectory } from "safetape";
import { FileFormatError } from "safetape/engine";
import { memoryDirectory } from "safetape/data";
import type { Directory } from "safetape";
import { readCheckpoint, writeCheckpoint } from "../../src/train/checkpoint/file";
import {
  checkpointName,
  checkpointSteps,
  latestCheckpoint,
  saveCheckpoint,
} from "../../src/train/checkpoint/directory";
import { checkIdentity } from "../../src/train/checkpoint/identity";
import { parseRecord } from "../../src/train/checkpoint/record";
import type { CheckpointTensor, RunCheckpoint, CheckpointRecord } from "../../src/train/checkpoint/record";
import { useFolder } from "../support/folder";
import { withFreeSpace } from "../support/full-disk";

const NO_BYTES = { weight: 0, state: 0, saved: 0, scratch: 0 };

function stateOf(step: number, seed = 1): RunCheckpoint {
  const saved: CheckpointRecord = {
    version: 1,
    identity: { seed: "1" },
    gpu: "none",
    step,
    hasBegun: true,
    live: ["a"],
    masked: [],
    isMerging: false,
    shapes: [{ size: 2, length: 8 }],
    variants: [[]],
    updates: { ages: [["hyper", step]] },
    start: { batches: 0 },
    place: { batches: step },
    unreportedFreezes: [],
    history: {
      freezes: [],
      skipped: [],
      notes: [],
      flops: 0.1,
      seconds: 1,
      peak: NO_BYTES,
      savedBytesFirst: 0,
      savedBytesLast: 0,
    },
  };
  const a = Float32Array.from([seed, 0.1, NaN, -0]);
  const tensors: [string, CheckpointTensor][] = [
    ["a", { shape: [2, 2], read: () => a }],
    ["nothing", { shape: [0], read: () => new Float32Array(0) }],
    ["losses of the steps", { shape: [step], read: () => new Float32Array(step).fill(1 / 3) }],
    ["extra: words", { shape: [2], dtype: "i32", read: () => Int32Array.of(7, -7) }],
  ];
  return { record: saved, tensors: new Map(tensors) };
}

/** A checkpoint whose record differs in some members, which need not be valid. */
function withRecord(change: object): RunCheckpoint {
  const checkpoint = stateOf(1);
  return { ...checkpoint, record: { ...checkpoint.record, ...change } };
}

async function bytesOf({ record: saved, tensors }: RunCheckpoint): Promise<unknown> {
  const read = [...tensors].map(async ([name, { read }]) => {
    const data = await read();
    return [name, [...new Uint8Array(data.buffer, data.byteOffset, data.byteLength)]] as const;
  });
  return { record: saved, tensors: Object.fromEntries(await Promise.all(read)) };
}

async function fileOf(state: RunCheckpoint): Promise<Uint8Array> {
  const directory = memoryDirectory("one");
  await writeCheckpoint(directory, "run", state);
  return directory.read("run");
}

const silent = (): void => undefined;

describe("the file of a checkpoint", () => {
  it("keeps every bit", async () => {
    const directory = memoryDirectory("one");
    await writeCheckpoint(directory, "run", stateOf(3));
    expect(await bytesOf(await readCheckpoint(directory, "run"))).toEqual(await bytesOf(stateOf(3)));
  });

  it("of an earlier version has another name for the freezes that no report contains", () => {
    const unreportedFreezes = [{ step: 1, tensors: ["a"], layers: [0], returnedBytes: 8, bytes: NO_BYTES }];
    const { record } = withRecord({ unreportedFreezes });
    const { unreportedFreezes: _, ...others } = record;
    expect(parseRecord({ ...others, untold: unreportedFreezes }, "a file")).toEqual(record);
  });

  it("is refused with any single byte changed, and with any other length", async () => {
    const whole = await fileOf(stateOf(1));
    for (let at = 0; at < whole.length; at += 1 + (at % 3)) {
      const bytes = Uint8Array.from(whole);
      bytes[at] = bytes[at]! ^ (1 << (at % 8));
      const read = readCheckpoint(memoryDirectory("m", { run: bytes }), "run");
      await expect(read, `byte ${at}`).rejects.toThrow(FileFormatError);
    }
    for (let length = 0; length < whole.length; length += 7) {
      const cut = memoryDirectory("m", { run: whole.slice(0, length) });
      await expect(readCheckpoint(cut, "run"), `${length} bytes`).rejects.toThrow(FileFormatError);
    }
    const longer = memoryDirectory("m", { run: Uint8Array.from([...whole, 0]) });
    await expect(readCheckpoint(longer, "run")).rejects.toThrow(FileFormatError);
  });

  it("is refused for a wrong record, even where its checksum is right", async () => {
    for (const change of [
      { step: -1 },
      { step: 0.5 },
      { live: "all" },
      { shapes: [{ size: 1e9, length: 1 }] },
      { further: 1 },
      { unreportedFreezes: [{ step: 1 }] },
      { place: {} },
    ]) {
      const directory = memoryDirectory("one");
      await writeCheckpoint(directory, "run", withRecord(change));
      await expect(readCheckpoint(directory, "run"), JSON.stringify(change)).rejects.toThrow(FileFormatError);
    }
  });

  it("is refused for another version of the format, and no older checkpoint is tried", async () => {
    const directory = memoryDirectory("run");
    await writeCheckpoint(directory, checkpointName(1), stateOf(1));
    await writeCheckpoint(directory, checkpointName(2), withRecord({ version: 2 }));
    await expect(latestCheckpoint(directory, silent)).rejects.toThrow(
      /checkpoint-00000002.* was written in version 2 of the checkpoint format; this safetape reads version 1/,
    );
  });

  it("is refused when it has changed before a tensor is read", async () => {
    const whole = await fileOf(stateOf(1));
    const directory = memoryDirectory("m", { run: whole });
    const { tensors } = await readCheckpoint(directory, "run");
    const text = new TextDecoder("latin1").decode(whole);
    whole[8 + new DataView(whole.buffer).getUint32(0, true) + 1]! ^= 1;
    expect(text).toContain("safetape run");
    await expect(tensors.get("a")?.read()).rejects.toThrow(/damaged/);
  });
});

describe("a directory of checkpoints", () => {
  it("keeps the given number of checkpoints, and the latest one is found", async () => {
    const directory = memoryDirectory("run");
    expect(await latestCheckpoint(directory, silent)).toBeUndefined();
    for (const step of [1, 2, 30, 100_000]) await saveCheckpoint(directory, stateOf(step), 2);
    expect(await checkpointSteps(directory)).toEqual([100_000, 30]);
    expect((await latestCheckpoint(directory, silent))?.checkpoint.record.step).toBe(100_000);
  });

  it("is read past damaged files with a warning, and the next save removes them", async () => {
    const directory = memoryDirectory("run");
    for (const step of [1, 2, 3]) await saveCheckpoint(directory, stateOf(step), 3);
    await directory.write(checkpointName(3), (await directory.read(checkpointName(3))).slice(0, -1));
    await directory.write(checkpointName(2), new Uint8Array(0));
    const warnings: string[] = [];
    const latest = await latestCheckpoint(directory, (message) => warnings.push(message));
    expect(latest?.checkpoint.record.step).toBe(1);
    expect(warnings).toHaveLength(2);
    expect(warnings[0]).toMatch(/checkpoint-00000003.safetensors .*The checkpoint before it is tried/);
    await saveCheckpoint(directory, stateOf(2), 2);
    expect(await checkpointSteps(directory)).toEqual([2, 1]);
    await directory.write(checkpointName(2), new Uint8Array(9));
    await directory.write(checkpointName(1), new Uint8Array(9));
    await expect(latestCheckpoint(directory, silent)).rejects.toThrow(/All 2 checkpoints in run are damaged/);
  });

  it("is refused for another run, with the settings that differ", () => {
    const identity = { seed: "1", "adapter.r": "4", "data.samples": "8" };
    expect(() => checkIdentity(identity, { ...identity }, "c")).not.toThrow();
    expect(() => checkIdentity(identity, { ...identity, "adapter.r": "8" }, "c")).toThrow(
      /c belongs to a different run: adapter.r is 4 here and 8 there/,
    );
    expect(() => checkIdentity(identity, { seed: "2" }, "c")).toThrow(
      /seed is 1 here and 2 there; adapter.r, data.samples differ/,
    );
    const policy = { "policy.name": '"freeze_to_fit"' };
    expect(() => checkIdentity(policy, { "policy.name": '"memory_budget"' }, "c")).not.toThrow();
  });
});

describe("a save", () => {
  const path = useFolder();

  it("that fills the disk at any byte changes nothing, and succeeds once there is room", async () => {
    const disk = await openDirectory(path());
    const size = (await fileOf(stateOf(2))).length;
    await saveCheckpoint(disk, stateOf(1), 1);
    const before = await readFile(path(checkpointName(1)));
    for (let free = 0; free < size; free += 37) {
      const full: Directory = withFreeSpace(disk, free);
      await expect(saveCheckpoint(full, stateOf(2), 1), `${free} bytes free`).rejects.toThrow(FileFormatError);
      await expect(saveCheckpoint(full, stateOf(1, 2), 1), "in place of itself").rejects.toThrow(/the disk is full/);
      expect(await readdir(path())).toEqual([checkpointName(1)]);
    }
    expect(await readFile(path(checkpointName(1)))).toEqual(before);
    await saveCheckpoint(withFreeSpace(disk, size), stateOf(2), 1);
    expect(await readdir(path())).toEqual([checkpointName(2)]);
  });

  it("into a read-only directory changes nothing", async () => {
    const disk = await openDirectory(path());
    await saveCheckpoint(disk, stateOf(1), 1);
    await chmod(path(), 0o500);
    // Root may write everywhere except where the kernel refuses it.
    const readOnly = process.getuid?.() === 0 ? await openDirectory("/proc") : disk;
    await expect(saveCheckpoint(readOnly, stateOf(2), 1)).rejects.toThrow(FileFormatError);
    await chmod(path(), 0o700);
    expect(await readdir(path())).toEqual([checkpointName(1)]);
  });

  it("into a directory that no longer exists gives a FileFormatError", async () => {
    const disk = await openDirectory(path());
    await rm(path(), { recursive: true });
    await expect(saveCheckpoint(disk, stateOf(2), 1)).rejects.toThrow(FileFormatError);
  });

  it("can be followed by a search during which the newest checkpoint disappears", async () => {
    const disk = await openDirectory(path());
    for (const step of [1, 2]) await saveCheckpoint(disk, stateOf(step), 2);
    const names = await disk.list();
    await rm(path(checkpointName(2)));
    const outdated: Directory = { ...disk, list: () => Promise.resolve(names) };
    expect((await latestCheckpoint(outdated, silent))?.checkpoint.record.step).toBe(1);
  });

  it("leaves other files alone", async () => {
    await writeFile(path("checkpoint-1.safetensors"), "mine");
    await saveCheckpoint(await openDirectory(path()), stateOf(5), 1);
    expect((await readdir(path())).sort()).toEqual([checkpointName(5), "checkpoint-1.safetensors"]);
  });
});
