import { FileFormatError, ShapeError } from "../base/errors";
import { Random } from "../base/random";
import type { WeightFormat } from "../base/packed";
import { elements, formatShape, sameShape } from "../base/shape";
import type { Engine } from "../engine";
import type { Device } from "../gpu/device";
import { createModel, loadFamily, withHead } from "../model/families";
import type { HeadOptions } from "../model/families";
import { isNormWeight } from "../model/model";
import type { Model, ParameterSpec } from "../model/model";
import { withWeights } from "../model/weights";
import type { Tensor } from "../tensor";
import { openCheckpoint } from "./checkpoint";
import type { Checkpoint } from "./checkpoint";
import type { Directory } from "./directory";
import { directoryAt } from "./directory-like";
import type { DirectoryLike } from "./directory-like";
import { Uploader } from "./upload";
import type { ElementSource } from "./upload";

/** Smallest magnitude of a norm's weights by which its gradients may divide. Below it, the norm keeps its input. */
const SMALLEST_INVERTIBLE = 1e-3;

/**
 * How a model is loaded. What the checkpoint lacks of a head (a pooler, a projection to the vocabulary) is initialised randomly,
 * and so is a head that has another size. A new pooler is trained and saved with the head.
 */
export interface LoadOptions extends HeadOptions {
  /** Seed of a head that is initialised. Default 0. */
  readonly seed?: number;
  /** How weights are stored (see `withWeights`). Weights in formats other than f32 cannot be trained. Default f32. */
  readonly weights?: WeightFormat;
  /** Called with the number of elements that are uploaded, and of all elements of the model. */
  readonly onProgress?: (done: number, of: number) => void;
}

/** A model with its weights on the GPU. It must be disposed of. */
export class LoadedModel {
  /** Whether a run has trained the weights in place: those of norms may have come close to zero since they were loaded. */
  isTrained = false;
  /** What generation_config.json, or else config.json, says about generation: the tokens that end a text. */
  generationConfig: Readonly<Record<string, unknown>>;
  readonly #weights: Map<string, Tensor>;
  #model: Model;
  #fragileNorms: ReadonlySet<string>;
  #device: Device;
  #isDisposed = false;
  #reloading: Promise<void> | undefined;

  constructor(
    readonly engine: Engine,
    /** The model as it was loaded. */
    readonly completeModel: Model,
    weights: Map<string, Tensor>,
    /** Where the weights come from, for records. */
    readonly source: string,
    /** Names of tensors that were initialised randomly because the checkpoint does not have them. */
    readonly initialised: readonly string[],
    fragileNorms: ReadonlySet<string>,
    /** Names of tensors of the checkpoint that the model has no use for: other heads, mask buffers. */
    readonly unused: readonly string[],
    /** What wrappers had put into the names of the checkpoint's tensors: "_orig_mod.", "module."; usually empty. */
    readonly removedFromNames: readonly string[] = [],
    /** Loads the model again, on the engine's current device. */
    private readonly loadAgain?: () => Promise<LoadedModel>,
    /** Where it was loaded from, or what has its tokenizer; undefined for random weights of a configuration alone. */
    readonly directory?: Directory,
  ) {
    this.generationConfig = completeModel.config;
    this.#model = completeModel;
    this.#weights = weights;
    this.#fragileNorms = fragileNorms;
    this.#device = engine.device;
  }

  /** The model that the weights are of. While a run with `loraPrune` lasts, it has fewer heads and neurons than `completeModel`. */
  get model(): Model {
    return this.#model;
  }

  /** Whether a run has cut heads or neurons out of the weights, and will put them back when it ends. */
  get isCut(): boolean {
    return this.#model !== this.completeModel;
  }

  get isDisposed(): boolean {
    return this.#isDisposed;
  }

  /** Puts other weights in the place of some, which it disposes of. @param model the one that the weights are then of. */
  replace(model: Model, weights: ReadonlyMap<string, Tensor>): void {
    this.#model = model;
    for (const [name, tensor] of weights) {
      this.#weights.get(name)?.dispose();
      this.#weights.set(name, tensor);
    }
  }

  /** Weights by name. */
  get weights(): ReadonlyMap<string, Tensor> {
    return this.#weights;
  }

  /** Names of norms that keep their input because a weight is close to zero. */
  get fragileNorms(): ReadonlySet<string> {
    return this.#fragileNorms;
  }

  /** Whether `reload` can load the weights again after the device was lost. */
  get canReload(): boolean {
    return this.loadAgain !== undefined;
  }

  /**
   * Loads the weights again if the engine has replaced its device since they were loaded.
   * @throws as `loadModel`.
   */
  async reload(): Promise<void> {
    const { loadAgain, engine } = this;
    if (this.#device === engine.device || !loadAgain) return;
    this.#reloading ??= loadAgain()
      .then(({ weights }) => {
        this.#model = this.completeModel;
        for (const [name, tensor] of weights) this.#weights.set(name, tensor);
        this.#device = engine.device;
      })
      .finally(() => (this.#reloading = undefined));
    await this.#reloading;
  }

  /** Finds the fragile norms again if the weights were trained in place. Reads the norms' weights. */
  async updateFragileNorms(): Promise<void> {
    if (!this.isTrained) return;
    const fragile = this.model.parameters.filter(isNormWeight).map(async ({ name, offset = 0 }) => {
      const data = await this.weights.get(name)!.read();
      return data.every((value) => Math.abs(value + offset) >= SMALLEST_INVERTIBLE) ? [] : [normOf(name)];
    });
    this.#fragileNorms = new Set((await Promise.all(fragile)).flat());
  }

  dispose(): void {
    this.#isDisposed = true;
    for (const tensor of this.weights.values()) tensor.dispose();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}

/**
 * Loads a Hugging Face directory (`config.json`, and `model.safetensors` or shards with an index, in f32, f16 or bf16) onto
 * the GPU. Tensors are read in windows and need not fit on the host. Weights quantised by bitsandbytes to NF4 or int8 are
 * dequantised, and stored in the format `options.weights`.
 * @throws ConfigError, FileFormatError or ShapeError for a missing, unknown or ill-shaped tensor or an invalid file, DtypeError
 * for a weight that `options.weights` cannot hold, OutOfMemoryError. GPU memory is then as it was before.
 */
export async function loadModel(engine: Engine, place: DirectoryLike, options: LoadOptions = {}): Promise<LoadedModel> {
  const directory = await directoryAt(place);
  const { model: described, checkpoint, sources } = await openModel(directory, options);
  const model = withWeights(described, options.weights ?? "f32");
  const random = new Random(options.seed ?? 0);
  const withProgress = counting(model, options.onProgress);
  return withNewWeights(async (weights) => {
    const uploader = new Uploader(engine.device, directory.name);
    const fragile = new Set<string>();
    for (const parameter of model.parameters) {
      const source = sources.get(parameter.name);
      const read: ElementSource =
        source === undefined
          ? initial(parameter, model.config, random)
          : (first, end) => checkpoint.read(source, { first, end });
      const { tensor, smallest } = await uploader.upload(parameter, withProgress(read));
      if (isNormWeight(parameter) && smallest < SMALLEST_INVERTIBLE) fragile.add(normOf(parameter.name));
      weights.set(parameter.name, tensor);
    }
    const initialised = model.parameters
      .filter(({ name, isBuffer }) => !isBuffer && !sources.has(name))
      .map(({ name }) => name);
    const used = new Set(sources.values());
    const unused = checkpoint.names().filter((name) => !used.has(name));
    const loadAgain = (): Promise<LoadedModel> => loadModel(engine, directory, options);
    const loaded = new LoadedModel(
      engine,
      model,
      weights,
      directory.name,
      initialised,
      fragile,
      unused,
      checkpoint.removed,
      loadAgain,
      directory,
    );
    const { generationConfig } = await import("./generation-config");
    loaded.generationConfig = await generationConfig(directory, model.config);
    return loaded;
  });
}

/** A model's directory whose weights are still on disk. */
export interface OpenedModel {
  readonly model: Model;
  readonly checkpoint: Checkpoint;
  /** Names of the model's parameters in the checkpoint, by their own names. Those that it lacks are missing. */
  readonly sources: ReadonlyMap<string, string>;
}

/** Describes a model by its files, of which it reads no more than it needs. @throws as `loadModel`, but for what is wrong with weights. */
export async function openModel(directory: Directory, options: HeadOptions): Promise<OpenedModel> {
  const files = await openCheckpoint(directory);
  // Few files are quantised, so the code that reads them is loaded only when needed.
  const quantised = seemsQuantised(files) ? await import("./bitsandbytes") : undefined;
  await loadFamily(files.config);
  const config = withHead(quantised?.unquantised(files.config) ?? files.config, options);
  await loadFamily(config);
  const asConfigured = createModel(config, files);
  const checkpoint = (await quantised?.dequantised(files, transposedNames(asConfigured))) ?? files;
  const mayDiffer = asConfigured.tiedOutput ?? asConfigured.encoderDecoder;
  const described = mayDiffer
    ? await (await import("./untied-output")).asStored(asConfigured, checkpoint)
    : asConfigured;
  const sources = await locateOrCompare(described, checkpoint);
  return { model: withNewHeads(described, sources), checkpoint, sources };
}

export interface InitialiseOptions {
  /** Default 0. */
  readonly seed?: number;
  /** How weights are stored (see `withWeights`). Default f32, which alone can be trained. */
  readonly weights?: WeightFormat;
  /** What has the model's tokenizer and the like, which `saveModel` copies. Default nothing. */
  readonly directory?: DirectoryLike;
}

/**
 * A model with random weights, for training from scratch: matrices from N(0, initializer_range), norms 1, biases 0, as transformers
 * initialises them; GPT-2's projections that end a sub-layer are smaller by the square root of twice the layers. Its task is that of
 * the configuration, or of `withHead(config, { task })` of `safetape/models`.
 * @throws ConfigError for an invalid configuration, OutOfMemoryError.
 */
export async function initialiseModel(
  engine: Engine,
  config: Readonly<Record<string, unknown>>,
  options: InitialiseOptions = {},
): Promise<LoadedModel> {
  const { seed = 0, weights: format = "f32", directory: from } = options;
  const directory = from === undefined ? undefined : await directoryAt(from);
  await loadFamily(config);
  const model = withWeights(createModel(config), format);
  const random = new Random(seed);
  return withNewWeights(async (weights) => {
    const uploader = new Uploader(engine.device, "random weights");
    for (const parameter of model.parameters) {
      weights.set(parameter.name, (await uploader.upload(parameter, initial(parameter, config, random))).tensor);
    }
    const loadAgain = (): Promise<LoadedModel> => initialiseModel(engine, config, options);
    const names = [...weights.keys()];
    const place = "random weights";
    return new LoadedModel(engine, model, weights, place, names, new Set(), [], [], loadAgain, directory);
  });
}

/** Wraps sources so that they report how many of the model's elements have been read. */
function counting(model: Model, onProgress: LoadOptions["onProgress"]): (source: ElementSource) => ElementSource {
  if (!onProgress) return (source) => source;
  const total = model.parameters.reduce((sum, { shape }) => sum + elements(shape), 0);
  let done = 0;
  return (source) => async (first, end) => {
    const data = await source(first, end);
    onProgress((done += end - first), total);
    return data;
  };
}

/** Runs a function that fills a map of weights. If it throws, the weights are disposed of. */
async function withNewWeights<T>(load: (weights: Map<string, Tensor>) => Promise<T>): Promise<T> {
  const weights = new Map<string, Tensor>();
  try {
    return await load(weights);
  } catch (error) {
    for (const tensor of weights.values()) tensor.dispose();
    throw error;
  }
}

/** Whether a checkpoint may be quantised: by its configuration, or a tensor of bytes, or one named like scales. */
function seemsQuantised(files: Checkpoint): boolean {
  const isQuantised = (name: string): boolean =>
    /\.SCB$|\.quant_state\./.test(name) || ["U8", "I8"].includes(files.info(name).dtype);
  return (files.config["quantization_config"] ?? undefined) !== undefined || files.names().some(isQuantised);
}

/** All names of GPT-2's Conv1D weights, which quantised files hold transposed. */
function transposedNames(model: Model): Set<string> {
  const projections = model.projections.filter(({ layout }) => layout === "in_out");
  return new Set(projections.flatMap(({ name }) => model.aliases(`${name}.weight`)));
}

/**
 * As `locate`, but where the names do not fit, the error says which family they look like.
 * @throws as `locate`.
 */
async function locateOrCompare(model: Model, checkpoint: Checkpoint): Promise<Map<string, string>> {
  try {
    return locate(model, checkpoint);
  } catch (error) {
    if (!(error instanceof FileFormatError)) throw error;
    // It makes a model of every family.
    const { lookAlikes } = await import("./look-alike");
    const families = await lookAlikes(model, checkpoint.names());
    if (families.length === 0) throw error;
    throw new FileFormatError(
      `The tensors of the checkpoint ${checkpoint.directory.name} look like those of ${families.join(" or ")}, but its config.json says ${model.family}.`,
      "Give the config.json that was published with these weights.",
      { cause: error },
    );
  }
}

/**
 * Names of the model's parameters in a checkpoint, by their own names.
 * @throws FileFormatError if a tensor outside the head is missing or unknown, ShapeError if it has another shape.
 */
function locate(model: Model, checkpoint: Checkpoint): Map<string, string> {
  const sources = new Map<string, string>();
  for (const { name, shape, isBuffer } of model.parameters) {
    const { module, table } = model.tiedOutput ?? {};
    // A table that the last projection shares may be there under the projection's name alone.
    const names = [...model.aliases(name), ...(name === table ? [`${module}.weight`] : [])];
    const stored = names.find((alias) => checkpoint.has(alias));
    if (stored === undefined) {
      if (isBuffer || isHead(model, name) || isAboveLayers(model, name)) continue;
      throw new FileFormatError(
        `The checkpoint ${checkpoint.directory.name} has no tensor ${name}.`,
        `A ${model.family} model of this configuration needs it: check that config.json belongs to the weights.`,
      );
    }
    const storedShape = checkpoint.info(stored).shape;
    if (sameShape(storedShape, shape)) sources.set(name, stored);
    else if (!isHead(model, name)) {
      throw new ShapeError(
        `${name} is ${formatShape(storedShape)} in the checkpoint; config.json makes it ${formatShape(shape)}.`,
        "Check that config.json belongs to the weights.",
      );
    }
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

/** Whether a tensor is of a projection behind the layers (BERT's pooler, an untied projection to the vocabulary), or its norm. */
const isAboveLayers = (model: Model, name: string): boolean =>
  model.normsOfHead?.some((norm) => name.startsWith(`${norm}.`)) ||
  model.projections.some(
    ({ name: module, layer, role }) => layer === undefined && role === undefined && name.startsWith(`${module}.`),
  );

/**
 * A model of which the modules between the layers and the labels that the checkpoint lacks (a pooler) belong to the head: random
 * as they are, they have to learn, and adapters have to contain them.
 */
function withNewHeads(model: Model, sources: ReadonlyMap<string, string>): Model {
  if (model.output) return model;
  const isNew = ({ name, isBuffer }: ParameterSpec): boolean =>
    !isBuffer && !sources.has(name) && !isHead(model, name) && isAboveLayers(model, name);
  const modules = model.parameters.filter(isNew).map(({ name }) => name.replace(/\.(?:weight|bias)$/, ""));
  return modules.length === 0 ? model : { ...model, heads: [...model.heads, ...new Set(modules)] };
}

/**
 * Random elements from N(0, initializer_range); ones for the weight of a norm, zeros for a bias and for a constant, and what a
 * family says.
 */
function initial(parameter: ParameterSpec, config: Readonly<Record<string, unknown>>, random: Random): ElementSource {
  const { name, isBuffer, initial: value = isBuffer || name.endsWith(".bias") ? 0 : undefined } = parameter;
  if (value === undefined && isScale(parameter)) return ones(parameter);
  const range = config["initializer_range"];
  const deviation = (typeof range === "number" ? range : 0.02) * (parameter.initialScale ?? 1);
  if (value !== undefined) return (first, end) => new Float32Array(end - first).fill(value);
  return (first, end) => Float32Array.from({ length: end - first }, () => random.normal() * deviation);
}

/** Whether a tensor begins as ones: the weight of a norm, or a layer scale. */
const isScale = ({ name, shape }: ParameterSpec): boolean => shape.length === 1 && !name.endsWith(".bias");

/** Ones, less what is added to them. */
const ones =
  ({ offset = 0 }: ParameterSpec): ElementSource =>
  (first, end) =>
    new Float32Array(end - first).fill(1 - offset);

const normOf = (weight: string): string => weight.replace(/\.weight$/, "");
