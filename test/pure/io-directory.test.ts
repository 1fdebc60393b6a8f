import { spawnSync } from "node:child_process";
import {
  chmodSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { FileFormatError } from "../../src/base/errors";
import { memoryDirectory } from "../../src/io/directory";
import type { Directory } from "../../src/io/directory";
import { openDirectory } from "../../src/node/directory";

let path: string;

beforeEach(() => {
  path = mkdtempSync(join(tmpdir(), "safetape-directory-"));
});

afterEach(() => {
  rmSync(path, { recursive: true, force: true });
});

const bytes = (text: string): Uint8Array => new TextEncoder().encode(text);
const text = async (directory: Directory, file: string): Promise<string> =>
  new TextDecoder().decode(await directory.read(file));

describe.each([
  ["on disk", () => openDirectory(path)],
  ["in memory", () => Promise.resolve(memoryDirectory("memory"))],
])("a directory %s", (_, open) => {
  test("writes, replaces, lists, measures and reads files", async () => {
    const directory = await open();
    await directory.write("b.txt", bytes("first"));
    await directory.write("a.txt", bytes("x"));
    await directory.write("b.txt", bytes("second"));
    expect(await directory.list()).toEqual(["a.txt", "b.txt"]);
    expect(await directory.size("b.txt")).toBe(6);
    expect(await directory.size("c.txt")).toBeUndefined();
    expect(await text(directory, "b.txt")).toBe("second");
    expect(new TextDecoder().decode(await directory.read("b.txt", 1, 3))).toBe("ec");
    expect((await directory.read("b.txt", 6, 6)).length).toBe(0);
  });

  test("writes content in pieces, from an array or from an async generator", async () => {
    const directory = await open();
    await directory.write("sync", [bytes("ab"), bytes(""), bytes("c")]);
    async function* pieces(): AsyncGenerator<Uint8Array> {
      yield await Promise.resolve(bytes("de"));
      yield bytes("f");
    }
    await directory.write("async", pieces());
    expect([await text(directory, "sync"), await text(directory, "async")]).toEqual(["abc", "def"]);
  });

  test.each(["", ".", "..", "../x", "/x", "x/y", "x\\y", "x\0", "x\ny", "x".repeat(256)])(
    "refuses the file name %j in every method",
    async (file) => {
      const directory = await open();
      await expect(directory.read(file)).rejects.toThrow(FileFormatError);
      await expect(directory.write(file, bytes("x"))).rejects.toThrow(/is not a valid name for a file/);
      await expect(directory.writeTogether([{ file, content: bytes("x") }])).rejects.toThrow(FileFormatError);
    },
  );

  test("names a missing file, and a range beyond the end of a file", async () => {
    const directory = await open();
    await directory.write("there", bytes("abc"));
    await expect(directory.read("missing")).rejects.toThrow(/no file missing in .*\nIt contains there/);
    await expect(directory.read("there", 0, 4)).rejects.toThrow(/there in .* has 3 bytes; bytes 0 to 4/);
    await expect(directory.read("there", 2, 1)).rejects.toThrow(FileFormatError);
    await expect(directory.read("there", -1)).rejects.toThrow(FileFormatError);
    await expect(directory.read("there", 0.5)).rejects.toThrow(FileFormatError);
  });

  test("returns bytes that the caller may change", async () => {
    const directory = await open();
    await directory.write("x", bytes("abc"));
    const read = await directory.read("x", 1);
    read.fill(0);
    expect([read.byteOffset, read.buffer.byteLength]).toEqual([0, 2]);
    expect(await text(directory, "x")).toBe("abc");
  });

  test("copies the bytes of a Buffer when it stores and when it returns them", async () => {
    const directory = await open();
    const buffer = Buffer.from("abcd").subarray(1);
    await directory.write("x", buffer);
    const read = await directory.read("x", 1);
    read.fill(0);
    expect([read.byteOffset, read.buffer.byteLength]).toEqual([0, 2]);
    expect([await text(directory, "x"), buffer.toString()]).toEqual(["bcd", "bcd"]);
    if (directory.name !== "memory") return;
    const initial = memoryDirectory("initial", { x: buffer });
    (await initial.read("x", 1)).fill(0);
    expect(await text(initial, "x")).toBe("bcd");
  });

  test("leaves every file unchanged if the content of one of them fails", async () => {
    const directory = await open();
    await directory.writeTogether([
      { file: "weights", content: bytes("old weights") },
      { file: "config", content: bytes("old config") },
    ]);
    function* failing(): Generator<Uint8Array> {
      yield bytes("new");
      throw new Error("the device is lost");
    }
    const files = [
      { file: "weights", content: bytes("new weights") },
      { file: "config", content: failing() },
    ];
    await expect(directory.writeTogether(files)).rejects.toThrow("the device is lost");
    expect(await directory.list()).toEqual(["config", "weights"]);
    expect([await text(directory, "weights"), await text(directory, "config")]).toEqual(["old weights", "old config"]);
  });
});

describe("openDirectory", () => {
  test("refuses a path that is not a directory, and with `create` makes the directory and its parents", async () => {
    await expect(openDirectory(join(path, "none"))).rejects.toThrow(/no directory at/);
    writeFileSync(join(path, "file"), "");
    await expect(openDirectory(join(path, "file"))).rejects.toThrow(/is a file, not a directory/);
    await expect(openDirectory(join(path, "file", "x"), { create: true })).rejects.toThrow(/cannot create.*ENOTDIR/);
    await (await openDirectory(join(path, "a", "b"), { create: true })).write("x", bytes("1"));
    expect(readFileSync(join(path, "a", "b", "x"), "utf8")).toBe("1");
  });

  test("follows links, which the Hugging Face cache consists of, and ignores everything that is not a file", async () => {
    mkdirSync(join(path, "blobs"));
    mkdirSync(join(path, "snapshot"));
    writeFileSync(join(path, "blobs", "0a1b"), "weights");
    symlinkSync("../blobs/0a1b", join(path, "snapshot", "model.safetensors"));
    symlinkSync("../blobs/gone", join(path, "snapshot", "broken"));
    symlinkSync("/dev/zero", join(path, "snapshot", "endless"));
    mkdirSync(join(path, "snapshot", "folder"));
    const directory = await openDirectory(join(path, "snapshot"));
    expect(await text(directory, "model.safetensors")).toBe("weights");
    for (const file of ["broken", "endless", "folder"]) {
      expect(await directory.size(file), file).toBeUndefined();
      await expect(directory.read(file)).rejects.toThrow(/no file/);
    }
  });

  test("ignores a pipe, since reading it could block for ever", async () => {
    if (spawnSync("mkfifo", [join(path, "pipe")]).status !== 0) return;
    const directory = await openDirectory(path);
    await expect(directory.read("pipe")).rejects.toThrow(/no file pipe/);
  });

  test("leaves no partial files, and removes those of a process that was killed", async () => {
    const dead = spawnSync(process.execPath, ["-e", "0"]).pid;
    writeFileSync(join(path, `.x.${dead}-0a.partial`), "half");
    writeFileSync(join(path, `.x.${process.ppid}-0a.partial`), "still being written");
    const directory = await openDirectory(path);
    await directory.write("x", bytes("whole"));
    expect(readdirSync(path).sort()).toEqual([`.x.${process.ppid}-0a.partial`, "x"]);
    expect(await directory.list()).toEqual(["x"]);
  });

  test("keeps the other files if one of them cannot be replaced", async () => {
    const directory = await openDirectory(path);
    mkdirSync(join(path, "weights"));
    await directory.write("config", bytes("old"));
    const files = [
      { file: "weights", content: bytes("new") },
      { file: "config", content: bytes("new") },
    ];
    await expect(directory.writeTogether(files)).rejects.toThrow(FileFormatError);
    expect(readdirSync(path).sort()).toEqual(["config", "weights"]);
    expect(await text(directory, "config")).toBe("old");
  });

  test.skipIf(process.getuid?.() === 0)("explains that a directory is read-only (root may write anyway)", async () => {
    const directory = await openDirectory(path);
    chmodSync(path, 0o555);
    await expect(directory.write("x", bytes("1"))).rejects.toThrow(/cannot write x in .*EACCES\n.*permission/);
    chmodSync(path, 0o755);
  });

  test("explains that a directory no longer exists", async () => {
    const directory = await openDirectory(path);
    rmSync(path, { recursive: true });
    await expect(directory.write("x", bytes("1"))).rejects.toThrow(/cannot write x in .*ENOENT\n.*still exists/);
    await expect(directory.list()).rejects.toThrow(FileFormatError);
  });

  test("never shows the last of the files that are written together beside files of another write", async () => {
    const script = join(path, "observe.mjs");
    const target = join(path, "target");
    mkdirSync(target);
    // A separate process reads the pair while it is rewritten.
    writeFileSync(
      script,
      `import { readFileSync, existsSync } from "node:fs";
      const read = (file) => { try { return readFileSync(${JSON.stringify(target)} + "/" + file, "utf8"); } catch { return undefined; } };
      process.stdout.write("ready");
      let pairs = 0;
      while (!existsSync(${JSON.stringify(path)} + "/stop")) {
        const config = read("config"), weights = read("weights"), configAgain = read("config");
        if (config === undefined || config !== configAgain) continue;
        pairs++;
        if (weights !== "weights of " + config) { console.log("\\n" + config + " beside " + weights); process.exit(1); }
      }
      console.log("\\nread pairs: " + (pairs > 0));`,
    );
    const { spawn } = await import("node:child_process");
    const child = spawn(process.execPath, [script]);
    let output = "";
    child.stdout.on("data", (chunk: Buffer) => (output += chunk.toString()));
    const exitCode = new Promise<number | null>((resolve) => child.on("exit", resolve));
    await new Promise((resolve) => child.stdout.once("data", resolve));
    const directory = await openDirectory(target);
    for (let version = 0; version < 60; version++) {
      await directory.writeTogether([
        { file: "weights", content: bytes(`weights of ${version}`) },
        { file: "config", content: bytes(String(version)) },
      ]);
    }
    writeFileSync(join(path, "stop"), "");
    expect([await exitCode, output.trim().split("\n").at(-1)], "exit code and last line of the observer").toEqual([
      0,
      "read pairs: true",
    ]);
  });

  test("keeps the last file in place while its content stays the same", async () => {
    const directory = await openDirectory(path);
    const write = (weights: string): Promise<void> =>
      directory.writeTogether([
        { file: "weights", content: bytes(weights) },
        { file: "config", content: bytes("same") },
      ]);
    await write("0");
    let missing = 0;
    const watch = { isOn: true };
    const watching = (async () => {
      while (watch.isOn) {
        if ((await directory.size("config")) === undefined) missing++;
        await new Promise((resolve) => setImmediate(resolve));
      }
    })();
    for (let i = 1; i < 50; i++) await write(String(i));
    watch.isOn = false;
    await watching;
    expect([missing, await text(directory, "weights")]).toEqual([0, "49"]);
  });
});
