import { FileFormatError } from "../../base/errors";
import { sha256 } from "../../base/sha256";
import type { Directory, FileContent } from "../../io/directory";
import { parseJson } from "../../io/json";
import { readSafetensorsHeader, readTensor } from "../../io/safetensors";
import type { SafetensorsHeader, TensorEntry } from "../../io/safetensors-header";
import { safetensorsContent } from "../../io/safetensors-write";
import type { TensorToWrite } from "../../io/safetensors-write";
import { parseRun } from "./record";
import type { KeptTensor, RunCheckpoint } from "./record";

/**
 * A safetensors file: the run's tensors, its record as JSON in the header, and at the end a tensor with the SHA-256 of all
 * before it. The sum is taken over the sums of header and tensors one by one, so that no more than one tensor is in memory.
 */
const FORMAT = "safetape run";
const CHECKSUM = "sha256";
const WORDS = 8;

/** Writes a run's state, whole or not at all. */
export async function writeRun(directory: Directory, file: string, { saved, tensors }: RunCheckpoint): Promise<void> {
  const sums: Uint8Array[] = [];
  const own = [...tensors].map(([name, { shape, dtype = "f32", read }]): TensorToWrite => {
    return { name, shape, dtype, data: async () => read() };
  });
  const checksum = async (): Promise<Int32Array> => new Int32Array((await sumOf(sums)).buffer as ArrayBuffer);
  const last: TensorToWrite = { name: CHECKSUM, shape: [WORDS], dtype: "i32", data: checksum };
  const metadata = { format: FORMAT, run: JSON.stringify(saved) };
  await directory.write(file, summed(safetensorsContent([...own, last], { metadata, order: "given" }), sums));
}

/** The content, of which every piece but those asked for later is in `sums` by the time the next one is made. */
async function* summed(content: FileContent, sums: Uint8Array[]): AsyncGenerator<Uint8Array> {
  for await (const piece of content as AsyncIterable<Uint8Array>) {
    sums.push(await sha256(piece));
    yield piece;
  }
}

async function sumOf(sums: readonly Uint8Array[]): Promise<Uint8Array> {
  const all = new Uint8Array(sums.length * 4 * WORDS);
  sums.forEach((sum, i) => all.set(sum, i * 4 * WORDS));
  return sha256(all);
}

/**
 * Reads a run's state: checks the whole file now, one tensor at a time, and each tensor again when it is asked for.
 * @throws FileFormatError for a file that is missing, damaged, or no checkpoint of a run.
 */
export async function readRun(directory: Directory, file: string): Promise<RunCheckpoint> {
  const where = `${file} in ${directory.name}`;
  const header = await readSafetensorsHeader(directory, file);
  const entries = [...header.tensors].sort(([, a], [, b]) => a.start - b.start || a.end - b.end);
  const [last, ...reversed] = entries.reverse();
  const own = reversed.reverse();
  if (header.metadata.get("format") !== FORMAT || last?.[0] !== CHECKSUM || last[1].dtype !== "I32") {
    throw new FileFormatError(`${where} is no checkpoint of a run.`, "Name the directory that the run was saved in.");
  }
  const sums = [await sha256(await directory.read(file, 0, own[0]?.[1].start ?? last[1].start))];
  for (const [, entry] of own) sums.push(await sha256(await directory.read(file, entry.start, entry.end)));
  const wanted = await directory.read(file, last[1].start, last[1].end);
  if (!equal(await sumOf(sums), wanted)) throw damaged(where);
  return { saved: savedRun(header, where), tensors: lazily(directory, file, own, sums.slice(1)) };
}

function savedRun({ metadata }: SafetensorsHeader, where: string) {
  return parseRun(parseJson(new TextEncoder().encode(metadata.get("run") ?? ""), where), where);
}

function lazily(
  directory: Directory,
  file: string,
  entries: readonly (readonly [string, TensorEntry])[],
  sums: readonly Uint8Array[],
): ReadonlyMap<string, KeptTensor> {
  const tensors = new Map<string, KeptTensor>();
  for (const [i, [name, entry]] of entries.entries()) {
    if (entry.dtype !== "F32" && entry.dtype !== "I32") throw damaged(`${file} in ${directory.name}`);
    const read = async (): Promise<Float32Array | Int32Array> => {
      const data = await readTensor(directory, file, name, entry);
      const sum = await sha256(new Uint8Array(data.buffer, data.byteOffset, data.byteLength));
      if (!equal(sum, sums[i]!)) throw damaged(`${file} in ${directory.name}`);
      return data;
    };
    tensors.set(name, { shape: entry.shape, dtype: entry.dtype === "I32" ? "i32" : "f32", read });
  }
  return tensors;
}

const equal = (a: Uint8Array, b: Uint8Array): boolean => a.length === b.length && a.every((byte, i) => byte === b[i]);

const damaged = (where: string): FileFormatError =>
  new FileFormatError(`${where} is damaged: its checksum is another one.`, "Resume from the checkpoint before it.");
