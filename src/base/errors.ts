/**
 * Base class of every error that safetape throws. The message has two lines: the fact (what went wrong, with names and
 * shapes) and the remedy (what to change). Each kind of failure has a class, so that callers can tell them apart.
 */
export class SafetapeError extends Error {
  constructor(
    readonly fact: string,
    readonly remedy: string,
    options?: ErrorOptions,
  ) {
    super(`${fact}\n${remedy}`, options);
    // The subclasses below set `name` themselves, because a minifier may shorten the names of classes.
    this.name = new.target === SafetapeError ? "SafetapeError" : new.target.name;
  }
}

/** A shape that does not fit an op, a tensor or a checkpoint. */
export class ShapeError extends SafetapeError {
  override name = "ShapeError";
}
/** A tensor with the wrong element type. */
export class DtypeError extends SafetapeError {
  override name = "DtypeError";
}
/** A limit of the GPU adapter that cannot be worked around. */
export class LimitError extends SafetapeError {
  override name = "LimitError";
}
/** A plan that needs more bytes than the caller allows. */
export class MemoryBudgetError extends SafetapeError {
  override name = "MemoryBudgetError";

  constructor(
    fact: string,
    remedy: string,
    readonly neededBytes: number,
    readonly budgetBytes: number,
  ) {
    super(fact, remedy);
  }
}
/** There is no GPU adapter, the device was lost, or the device reported an error that the caller did not cause. */
export class DeviceError extends SafetapeError {
  override name = "DeviceError";
}
/** A way to run with less memory. */
export interface MemoryAlternative {
  /** Options of the trainer, as source text. */
  readonly options: string;
  /** Bytes that the plan needs with these options. */
  readonly bytes: number;
}
/** The driver refused an allocation. Tensors that were live before stay valid. */
export class OutOfMemoryError extends DeviceError {
  override name = "OutOfMemoryError";
  /** Bytes of all the allocations that were requested together. */
  readonly requestedBytes: number;
  /** Bytes that were live on the device at the time. */
  readonly liveBytes: number;
  /** Bytes that the plan of the run needs; undefined if the allocation was not for a plan. */
  readonly plannedBytes: number | undefined;
  /** Options with which the same run would need less. */
  readonly alternatives: readonly MemoryAlternative[];

  constructor(
    fact: string,
    remedy: string,
    details: {
      readonly requestedBytes: number;
      readonly liveBytes: number;
      readonly plannedBytes?: number;
      readonly alternatives?: readonly MemoryAlternative[];
    },
    options?: ErrorOptions,
  ) {
    super(fact, remedy, options);
    this.requestedBytes = details.requestedBytes;
    this.liveBytes = details.liveBytes;
    this.plannedBytes = details.plannedBytes;
    this.alternatives = details.alternatives ?? [];
  }
}
/** A kernel that does not compile, or whose bindings do not match those of its launches. */
export class KernelError extends SafetapeError {
  override name = "KernelError";
}
/** A file or directory that is missing, damaged or in another format than it claims. */
export class FileFormatError extends SafetapeError {
  override name = "FileFormatError";
}
/** A download that failed: the model does not exist, access is denied, the server is down, or a checksum is wrong. */
export class DownloadError extends SafetapeError {
  override name = "DownloadError";
}
/** An upload that failed: access is denied, the server is down, or it refuses the files. Nothing of it is published. */
export class UploadError extends SafetapeError {
  override name = "UploadError";
}
/** Training data that cannot be used: an empty file, a bad line, a label or an id out of range. */
export class DataError extends SafetapeError {
  override name = "DataError";
}
/** A configuration that names something unknown: a model type, an activation, an adapter target, an option. */
export class ConfigError extends SafetapeError {
  override name = "ConfigError";
}
/** A tensor, trainer or engine was used after `dispose`. */
export class DisposedError extends SafetapeError {
  override name = "DisposedError";
}
/** A loss or gradient norm that is NaN or infinite. The tensors keep the values of the last good step. */
export class NotFiniteError extends SafetapeError {
  override name = "NotFiniteError";
  /** What is not finite: "loss" or "gradient norm". */
  readonly what: string;
  readonly value: number;

  constructor(
    fact: string,
    remedy: string,
    /** Index of the step, counted from 0. */
    readonly step: number,
    { what, value, ...options }: { readonly what: string; readonly value: number } & ErrorOptions,
  ) {
    super(fact, remedy, options);
    this.what = what;
    this.value = value;
  }
}
