import { ConfigError, FileFormatError } from "../base/errors";
import type { Shape } from "../base/shape";
import type { Checkpoint } from "./checkpoint";
import { openEightBits, openFourBits } from "./bitsandbytes-codes";
import type { Codes } from "./bitsandbytes-codes";
import type { ElementRange } from "./safetensors";

/** `X.weight.quant_state.bitsandbytes__nf4`: shape and block sizes of the 4-bit weight `X.weight`, as JSON. */
const FOUR_BITS = /^(.+)\.quant_state\.bitsandbytes__([a-z0-9]+)$/;
/** `X.SCB`: the scales of the 8-bit weight `X.weight`. */
const EIGHT_BITS = /^(.+)\.SCB$/;

/**
 * A model's configuration without `quantization_config`: weights are read dequantised.
 * @throws ConfigError for a `quant_method` other than bitsandbytes.
 */
export function unquantised(config: Readonly<Record<string, unknown>>): Readonly<Record<string, unknown>> {
  const { quantization_config: quantization, ...rest } = config;
  if (quantization === undefined || quantization === null) return config;
  const keys = new Map(Object.entries(quantization));
  // Older files do not name the method.
  const isOld = keys.get("load_in_8bit") === true || keys.get("load_in_4bit") === true;
  const method: unknown = keys.get("quant_method") ?? (isOld ? "bitsandbytes" : undefined);
  if (method === "bitsandbytes") return rest;
  const methodName = typeof method === "string" ? JSON.stringify(method) : "an unknown method";
  throw new ConfigError(
    `config.json: the files are quantised by ${methodName}; only bitsandbytes' are supported.`,
    `Load the original model with weights: "int8" or "nf4", or save this one dequantised with transformers.`,
  );
}

/**
 * A checkpoint that reads weights in bitsandbytes' NF4 (with or without double quantisation) and int8 as f32, under their
 * own names and in their modules' shapes. Any other checkpoint is returned as it is.
 * @param transposed names of weights that the file holds transposed, as transformers stores a quantised Conv1D.
 * @throws FileFormatError for FP4, and for codes, scales or code maps that are missing or do not fit the weight.
 */
export async function dequantised(checkpoint: Checkpoint, transposed: ReadonlySet<string>): Promise<Checkpoint> {
  const weights = new Map<string, Codes>();
  for (const name of checkpoint.names()) {
    const [, four, kind] = FOUR_BITS.exec(name) ?? [];
    const [, eight] = EIGHT_BITS.exec(name) ?? [];
    if (four !== undefined) weights.set(four, await openFourBits(checkpoint, four, name, String(kind)));
    if (eight !== undefined) weights.set(`${eight}.weight`, await openEightBits(checkpoint, `${eight}.weight`, name));
  }
  checkOrphans(checkpoint, weights);
  if (weights.size === 0) return checkpoint;
  const companions = new Set([...weights.values()].flatMap((codes) => codes.companions));
  return {
    ...checkpoint,
    names: () => checkpoint.names().filter((name) => !companions.has(name)),
    has: (name) => checkpoint.has(name) && !companions.has(name),
    info: (name) => {
      const codes = weights.get(name);
      const info = checkpoint.info(name);
      return codes ? { ...info, dtype: codes.dtype, shape: shapeOf(codes, transposed.has(name)) } : info;
    },
    read: async (name, part) => {
      const codes = weights.get(name);
      return codes ? readCodes(codes, transposed.has(name), part) : checkpoint.read(name, part);
    },
  };
}

const shapeOf = ({ rows, columns }: Codes, isTransposed: boolean): Shape =>
  isTransposed ? [columns, rows] : [rows, columns];

/** Elements of a weight. For any part of a transposed one, the codes of the complete weight are read. */
async function readCodes(codes: Codes, isTransposed: boolean, part?: ElementRange): Promise<Float32Array> {
  const { rows, columns } = codes;
  const { first, end } = part ?? { first: 0, end: rows * columns };
  const data = new Float32Array(end - first);
  const value = await codes.open(isTransposed ? { first: 0, end: rows * columns } : { first, end });
  for (let i = 0; i < data.length; i++) {
    const index = first + i;
    data[i] = value(isTransposed ? (index % rows) * columns + Math.floor(index / rows) : index);
  }
  return data;
}

/** @throws FileFormatError for a quantised weight without scales. */
function checkOrphans(checkpoint: Checkpoint, weights: ReadonlyMap<string, Codes>): void {
  const isOrphan = (name: string): boolean =>
    name.endsWith(".weight") && !weights.has(name) && ["U8", "I8"].includes(checkpoint.info(name).dtype);
  const name = checkpoint.names().find(isOrphan);
  if (name === undefined) return;
  const isByte = checkpoint.info(name).dtype === "U8";
  const missing = isByte ? `${name}.quant_state.bitsandbytes__nf4` : name.replace(/weight$/, "SCB");
  throw new FileFormatError(
    `${name} in ${checkpoint.directory.name} is quantised, but ${missing} is missing.`,
    "Download the checkpoint again, or save it again with save_pretrained.",
  );
}
