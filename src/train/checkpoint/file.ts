import { FileFormatError } from "../../base/errors";
import { sha256 } from "../../base/sha256";
import type { Directory, FileContent } from "../../io/directory";
import { parseJson } from "../../io/json";
import { readSafetensorsHeader, readTensor } from "../../io/safetensors";
import type { SafetensorsHeader, TensorEntry } from "../../io/safetensors-header";
import { safetensorsContent } from "../../io/safetensors-write";
import type { TensorToWrite } from "../../io/safetensors-write";
import { parseRecord } from "./record";
import type { CheckpointRecord, CheckpointTensor, RunCheckpoint } from "./record";

/*
 * A checkpoint is a safetensors file: the tensors of the run, its record as JSON in the header, and as the last tensor the
 * SHA-256 of everything before it. That checksum is taken over the checksums of the header and of each tensor, so that no
 * more than one tensor is in memory at a time.
 */
const FORMAT = "safetape run";
const CHECKSUM = "sha256";
const CHECKSUM_WORDS = 8;
const CHECKSUM_BYTES = 4 * CHECKSUM_WORDS;

/** Writes a checkpoint; the file appears complete or not at all. */
export async function writeCheckpoint(
  directory: Directory,
  file: string,
  { record, tensors }: RunCheckpoint,
): Promise<void> {
  const checksums: Uint8Array[] = [];
  const runTensors = [...tensors].map(([name, { shape, dtype = "f32", read }]): TensorToWrite => {
    return { name, shape, dtype, data: async () => read() };
  });
  const checksum: TensorToWrite = {
    name: CHECKSUM,
    shape: [CHECKSUM_WORDS],
    dtype: "i32",
    data: async () => new Int32Array((await combine(checksums)).slice().buffer),
  };
  const metadata = { format: FORMAT, run: JSON.stringify(record) };
  const content = safetensorsContent([...runTensors, checksum], { metadata, order: "given" });
  await directory.write(file, withChecksums(content, checksums));
}

/** Passes content on, and adds the checksum of each piece to `checksums` before the next piece is requested. */
async function* withChecksums(content: FileContent, checksums: Uint8Array[]): AsyncGenerator<Uint8Array> {
  for await (const piece of content instanceof Uint8Array ? [content] : content) {
    checksums.push(await sha256(piece));
    yield piece;
  }
}

async function combine(checksums: readonly Uint8Array[]): Promise<Uint8Array> {
  const bytes = new Uint8Array(checksums.length * CHECKSUM_BYTES);
  checksums.forEach((checksum, i) => bytes.set(checksum, i * CHECKSUM_BYTES));
  return sha256(bytes);
}

/**
 * Reads a checkpoint. The file is checked completely, one tensor at a time, and each tensor again when it is read.
 * @throws FileFormatError for a file that is missing, damaged, or not a checkpoint.
 */
export async function readCheckpoint(directory: Directory, file: string): Promise<RunCheckpoint> {
  const where = `${file} in ${directory.name}`;
  const header = await readSafetensorsHeader(directory, file);
  const entries = [...header.tensors].sort(([, a], [, b]) => a.start - b.start || a.end - b.end);
  const last = entries.pop();
  if (header.metadata.get("format") !== FORMAT || last?.[0] !== CHECKSUM || last[1].dtype !== "I32") {
    throw new FileFormatError(
      `${where} is not a checkpoint of a run.`,
      "Name the directory that the run was saved in.",
    );
  }
  const checksumEntry = last[1];
  const headerEnd = entries[0]?.[1].start ?? checksumEntry.start;
  const checksums = [await sha256(await directory.read(file, 0, headerEnd))];
  for (const [, entry] of entries) checksums.push(await sha256(await directory.read(file, entry.start, entry.end)));
  const expected = await directory.read(file, checksumEntry.start, checksumEntry.end);
  if (!isEqual(await combine(checksums), expected)) throw damaged(where);
  const tensors = tensorsOf(directory, file, entries, checksums.slice(1));
  return { record: readRecord(header, where), tensors };
}

function readRecord({ metadata }: SafetensorsHeader, where: string): CheckpointRecord {
  return parseRecord(parseJson(new TextEncoder().encode(metadata.get("run") ?? ""), where), where);
}

function tensorsOf(
  directory: Directory,
  file: string,
  entries: readonly (readonly [string, TensorEntry])[],
  checksums: readonly Uint8Array[],
): ReadonlyMap<string, CheckpointTensor> {
  const where = `${file} in ${directory.name}`;
  const tensors = new Map<string, CheckpointTensor>();
  for (const [i, [name, entry]] of entries.entries()) {
    if (entry.dtype !== "F32" && entry.dtype !== "I32") throw damaged(where);
    const read = async (): Promise<Float32Array | Int32Array> => {
      const data = await readTensor(directory, file, name, entry);
      const checksum = await sha256(new Uint8Array(data.buffer, data.byteOffset, data.byteLength));
      if (!isEqual(checksum, checksums[i]!)) throw damaged(where);
      return data;
    };
    tensors.set(name, { shape: entry.shape, dtype: entry.dtype === "I32" ? "i32" : "f32", read });
  }
  return tensors;
}

function isEqual(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && a.every((byte, i) => byte === b[i]);
}

function damaged(where: string): FileFormatError {
  return new FileFormatError(
    `${where} is damaged: its checksum does not match.`,
    "Resume from the checkpoint before it.",
  );
}
