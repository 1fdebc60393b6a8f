import { FileFormatError, ShapeError } from "../base/errors";
import { Random } from "../base/random";
import type { WeightFormat } from "../base/packed";
import { elements, formatShape, sameShape } from "../base/shape";
import type { Engine } from "../engine";
import type { Device } from "../gpu/device";
import { createModel, withHead } from "../model/families";
import type { HeadOptions } from "../model/families";
import type { Model, ParameterSpec } from "../model/model";
import { withWeights } from "../model/weights";
import type { Tensor } from "../tensor";
import { openCheckpoint } from "./checkpoint";
import type { Checkpoint } from "./checkpoint";
import type { Directory } from "./directory";
import { Uploader } from "./upload";
import type { ElementSource } from "./upload";

/** A norm's weight below this cannot be divided by: the norm then keeps its input. */
const SMALLEST_INVERTIBLE = 1e-3;

/** A head that the checkpoint does not have, or has in another size, is initialised anew. */
export interface LoadOptions extends HeadOptions {
  /** Seed of what is initialised anew. Default 0. */
  readonly seed?: number;
  /** How frozen weights are stored (see `withWeights`). Default f32, which alone can learn. */
  readonly weights?: WeightFormat;
  /** Told of the numbers that are read and stored, packed if need be, and of how many there are. */
  readonly onProgress?: (done: number, of: number) => void;
}

/** A model with its weights on the GPU. Dispose of it when done. */
export class LoadedModel {
  /** Whether a run has trained the weights in place: those of norms may have come close to zero since they were loaded. */
  isTrained = false;
  #device: Device;
  #reloading: Promise<void> | undefined;

  constructor(
    readonly engine: Engine,
    readonly model: Model,
    readonly weights: ReadonlyMap<string, Tensor>,
    /** Where it was read from, for records. */
    readonly source: string,
    /** Tensors of the head that the checkpoint does not have, initialised from N(0, initializer_range). */
    readonly initialised: readonly string[],
    /** Norms that keep their input because a weight is close to zero. */
    public fragileNorms: ReadonlySet<string>,
    /** Tensors of the checkpoint that this model does not have and that were passed over: other heads, mask buffers. */
    readonly unused: readonly string[],
    /** Makes it once more, on the engine's device of then. */
    private readonly remake?: () => Promise<LoadedModel>,
  ) {
    this.#device = engine.device;
  }

  /** Whether it can be loaded again after its device was lost. */
  get canReload(): boolean {
    return this.remake !== undefined;
  }

  /**
   * Loads the weights again where the engine has another device by now; nothing where they are there already.
   * @throws as `loadModel`.
   */
  async reload(): Promise<void> {
    const { remake, engine } = this;
    if (this.#device === engine.device || !remake) return;
    this.#reloading ??= remake()
      .then(({ weights }) => {
        const own = this.weights as Map<string, Tensor>;
        for (const [name, tensor] of weights) own.set(name, tensor);
        this.#device = engine.device;
      })
      .finally(() => (this.#reloading = undefined));
    await this.#reloading;
  }

  /** Finds the fragile norms again if the weights were trained in place. Reads the norms' weights. */
  async updateFragileNorms(): Promise<void> {
    if (!this.isTrained) return;
    const fragile = this.model.parameters.filter(isNorm).map(async ({ name }) => {
      const data = await this.weights.get(name)!.read();
      return data.every((value) => Math.abs(value) >= SMALLEST_INVERTIBLE) ? [] : [normOf(name)];
    });
    this.fragileNorms = new Set((await Promise.all(fragile)).flat());
  }

  dispose(): void {
    for (const tensor of this.weights.values()) tensor.dispose();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}

/**
 * Reads a Hugging Face directory (`config.json`, `model.safetensors` or a sharded index; f32, f16 or bf16) onto the GPU,
 * window by window: the host never holds a whole table. Of quantised files, bitsandbytes' NF4 and int8 are read, as the
 * f32 that they stand for, and stored in the format that `weights` asks for.
 * @throws ConfigError, FileFormatError or ShapeError for anything missing, unknown or ill-shaped, OutOfMemoryError when
 * memory runs out; GPU memory is then as it was before.
 */
export async function loadModel(engine: Engine, directory: Directory, options: LoadOptions = {}): Promise<LoadedModel> {
  const files = await openCheckpoint(directory);
  // Few files are quantised: what reads them is loaded for those.
  const quantised = seemsQuantised(files) ? await import("./bitsandbytes") : undefined;
  const config = withHead(quantised?.unquantised(files.config) ?? files.config, options);
  const model = withWeights(createModel(config), options.weights ?? "f32");
  const checkpoint = (await quantised?.dequantised(files, transposedNames(model))) ?? files;
  const sources = locate(model, checkpoint);
  const random = new Random(options.seed ?? 0);
  const told = counting(model, options.onProgress);
  return withNewWeights(async (weights) => {
    const uploader = new Uploader(engine.device, directory.name);
    const fragile = new Set<string>();
    for (const parameter of model.parameters) {
      const source = sources.get(parameter.name);
      const read: ElementSource =
        source === undefined
          ? initial(parameter, config, random)
          : (first, end) => checkpoint.read(source, { first, end });
      const { tensor, smallest } = await uploader.upload(parameter, told(read));
      if (isNorm(parameter) && smallest < SMALLEST_INVERTIBLE) fragile.add(normOf(parameter.name));
      weights.set(parameter.name, tensor);
    }
    const initialised = model.parameters.map(({ name }) => name).filter((name) => !sources.has(name));
    const used = new Set(sources.values());
    const unused = checkpoint.names().filter((name) => !used.has(name));
    const again = (): Promise<LoadedModel> => loadModel(engine, directory, options);
    return new LoadedModel(engine, model, weights, directory.name, initialised, fragile, unused, again);
  });
}

/**
 * A model with random weights, to be trained from scratch: matrices from N(0, initializer_range), norms 1, biases 0.
 * @throws ConfigError for a configuration that makes no sense.
 */
export async function initialiseModel(
  engine: Engine,
  config: Readonly<Record<string, unknown>>,
  options: { readonly seed?: number; readonly weights?: WeightFormat } = {},
): Promise<LoadedModel> {
  const { seed = 0, weights: format = "f32" } = options;
  const model = withWeights(createModel(config), format);
  const random = new Random(seed);
  return withNewWeights(async (weights) => {
    const uploader = new Uploader(engine.device, "random weights");
    for (const parameter of model.parameters) {
      const source = isNorm(parameter) ? ones : initial(parameter, config, random);
      weights.set(parameter.name, (await uploader.upload(parameter, source)).tensor);
    }
    const again = (): Promise<LoadedModel> => initialiseModel(engine, config, options);
    return new LoadedModel(engine, model, weights, "random weights", [...weights.keys()], new Set(), [], again);
  });
}

/** Sources that tell how many of the model's numbers they have given. */
function counting(model: Model, onProgress: LoadOptions["onProgress"]): (source: ElementSource) => ElementSource {
  if (!onProgress) return (source) => source;
  const all = model.parameters.reduce((sum, { shape }) => sum + elements(shape), 0);
  let done = 0;
  return (source) => async (first, end) => {
    const data = await source(first, end);
    onProgress((done += end - first), all);
    return data;
  };
}

/** Weights that are made one by one are disposed of where one of them fails. */
async function withNewWeights<T>(make: (weights: Map<string, Tensor>) => Promise<T>): Promise<T> {
  const weights = new Map<string, Tensor>();
  try {
    return await make(weights);
  } catch (error) {
    for (const tensor of weights.values()) tensor.dispose();
    throw error;
  }
}

/** Whether the configuration says so, or a tensor is stored in bytes or named as scales are. */
function seemsQuantised(files: Checkpoint): boolean {
  const isTrace = (name: string): boolean =>
    /\.SCB$|\.quant_state\./.test(name) || ["U8", "I8"].includes(files.info(name).dtype);
  return (files.config["quantization_config"] ?? undefined) !== undefined || files.names().some(isTrace);
}

/** Weights of GPT-2's Conv1D, which files in fewer bits hold transposed, under every name that they may have. */
function transposedNames(model: Model): Set<string> {
  const flipped = model.projections.filter(({ layout }) => layout === "in_out");
  return new Set(flipped.flatMap(({ name }) => model.aliases(`${name}.weight`)));
}

/** Parameter -> its name in the checkpoint. Only a head may be missing; nothing may be left over. */
function locate(model: Model, checkpoint: Checkpoint): Map<string, string> {
  const sources = new Map<string, string>();
  for (const { name, shape } of model.parameters) {
    const found = model.aliases(name).find((alias) => checkpoint.has(alias));
    if (found === undefined) {
      if (isHead(model, name)) continue;
      throw new FileFormatError(
        `The checkpoint ${checkpoint.directory.name} has no tensor ${name}.`,
        `A ${model.family} model of this configuration needs it; check that config.json belongs to the weights.`,
      );
    }
    const given = checkpoint.info(found).shape;
    if (sameShape(given, shape)) sources.set(name, found);
    else if (!isHead(model, name)) throw illShaped(name, given, shape);
  }
  const used = new Set(sources.values());
  const unknown = checkpoint.names().filter((name) => !used.has(name) && !model.ignores(name) && !isHead(model, name));
  if (unknown.length > 0) {
    throw new FileFormatError(
      `The checkpoint ${checkpoint.directory.name} has ${unknown.length} tensors that a ${model.family} model does not have: ${unknown.slice(0, 3).join(", ")}.`,
      "Check that config.json belongs to the weights, and num_hidden_layers in it.",
    );
  }
  return sources;
}

const isHead = (model: Model, name: string): boolean => model.heads.some((head) => name.startsWith(`${head}.`));

function illShaped(name: string, given: readonly number[], wanted: readonly number[]): ShapeError {
  return new ShapeError(
    `${name} is ${formatShape(given)} in the checkpoint; config.json makes it ${formatShape(wanted)}.`,
    "Check that config.json belongs to the weights.",
  );
}

/** N(0, initializer_range), biases 0. */
function initial({ name }: ParameterSpec, config: Readonly<Record<string, unknown>>, random: Random): ElementSource {
  const given = config["initializer_range"];
  const deviation = typeof given === "number" ? given : 0.02;
  if (name.endsWith(".bias")) return (first, end) => new Float32Array(end - first);
  return (first, end) => Float32Array.from({ length: end - first }, () => random.normal() * deviation);
}

const ones: ElementSource = (first, end) => new Float32Array(end - first).fill(1);

const normOf = (weight: string): string => weight.replace(/\.weight$/, "");
const isNorm = ({ name, shape }: ParameterSpec): boolean => shape.length === 1 && name.endsWith(".weight");
