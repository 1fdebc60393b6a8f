import { ConfigError, FileFormatError } from "../base/errors";
import type { Shape } from "../base/shape";
import type { Checkpoint } from "./checkpoint";
import { openEightBits, openFourBits } from "./bitsandbytes-codes";
import type { Codes } from "./bitsandbytes-codes";
import type { ElementRange } from "./safetensors";

/** `X.weight.quant_state.bitsandbytes__nf4`: what is known of a weight in four bits, beside its scales. */
const FOUR_BITS = /^(.+)\.quant_state\.bitsandbytes__([a-z0-9]+)$/;
/** `X.SCB`: the scales of `X.weight` in eight bits. */
const EIGHT_BITS = /^(.+)\.SCB$/;

/**
 * A model's configuration without how its files are quantised, since what is read of them is not.
 * @throws ConfigError for a `quant_method` other than bitsandbytes.
 */
export function unquantised(config: Readonly<Record<string, unknown>>): Readonly<Record<string, unknown>> {
  const { quantization_config: given, ...rest } = config;
  if (given === undefined || given === null) return config;
  const told = given as Readonly<Record<string, unknown>>;
  const isOld = told["load_in_8bit"] === true || told["load_in_4bit"] === true;
  const method = told["quant_method"] ?? (isOld ? "bitsandbytes" : undefined);
  if (method === "bitsandbytes") return rest;
  const named = typeof method === "string" ? JSON.stringify(method) : "a method that it does not name";
  throw new ConfigError(
    `config.json: the files are quantised by ${named}; of quantised files, only bitsandbytes' are read.`,
    `Load the model that it was made from, with weights: "int8" or "nf4", or save it dequantised with transformers.`,
  );
}

/**
 * A checkpoint whose weights in bitsandbytes' NF4 (with or without double quantisation) or int8 read as the f32 that they
 * stand for, each under its own name and in the shape of the module; any other checkpoint as it is. Where transformers
 * quantises a Conv1D it stores the transpose: names in `transposed` are given as they were.
 * @throws FileFormatError for FP4, and for scales, code maps or codes that are missing or do not fit the weight.
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
      const found = checkpoint.info(name);
      return codes ? { ...found, dtype: codes.dtype, shape: shapeOf(codes, transposed.has(name)) } : found;
    },
    read: async (name, part) => {
      const codes = weights.get(name);
      return codes ? readCodes(codes, transposed.has(name), part) : checkpoint.read(name, part);
    },
  };
}

const shapeOf = ({ rows, columns }: Codes, isTransposed: boolean): Shape =>
  isTransposed ? [columns, rows] : [rows, columns];

/** Elements of a weight; of a transposed one, all codes are read for every part, four or eight bits each. */
async function readCodes(codes: Codes, isTransposed: boolean, part?: ElementRange): Promise<Float32Array> {
  const { rows, columns } = codes;
  const { first, end } = part ?? { first: 0, end: rows * columns };
  const data = new Float32Array(end - first);
  const value = await codes.open(isTransposed ? { first: 0, end: rows * columns } : { first, end });
  for (let i = 0; i < data.length; i++) {
    const at = first + i;
    data[i] = value(isTransposed ? (at % rows) * columns + Math.floor(at / rows) : at);
  }
  return data;
}

/** @throws FileFormatError for codes that nothing tells the meaning of. */
function checkOrphans(checkpoint: Checkpoint, weights: ReadonlyMap<string, Codes>): void {
  const isOrphan = (name: string): boolean =>
    name.endsWith(".weight") && !weights.has(name) && ["U8", "I8"].includes(checkpoint.info(name).dtype);
  const name = checkpoint.names().find(isOrphan);
  if (name === undefined) return;
  const isByte = checkpoint.info(name).dtype === "U8";
  const missing = isByte ? `${name}.quant_state.bitsandbytes__nf4` : name.replace(/weight$/, "SCB");
  throw new FileFormatError(
    `${name} in ${checkpoint.directory.name} is quantised, but ${missing} is missing`,
    "fetch the checkpoint again, or save it again with save_pretrained",
  );
}
