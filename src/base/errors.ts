/**
 * Every error of safetape is one line of fact (what was asked, what is allowed, with names and shapes) and one of
 * remedy (the call or the limit that mends it). One class per kind of failure, so that callers can tell them apart.
 */
export class SafetapeError extends Error {
  constructor(
    readonly fact: string,
    readonly remedy: string,
    options?: ErrorOptions,
  ) {
    super(`${fact}\n${remedy}`, options);
    // Classes that name themselves, as all here do, keep their names where a bundler shortens them.
    this.name = new.target === SafetapeError ? "SafetapeError" : new.target.name;
  }
}

/** Shapes that do not fit an op, a tensor or a checkpoint. */
export class ShapeError extends SafetapeError {
  override name = "ShapeError";
}
/** An element type where another is needed. */
export class DtypeError extends SafetapeError {
  override name = "DtypeError";
}
/** A limit of the adapter that cannot be worked around. */
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
/** No adapter, a lost device, or a device error that is no fault of the caller's. */
export class DeviceError extends SafetapeError {
  override name = "DeviceError";
}
/** A way to run with less memory, and what the plan then needs. */
export interface MemoryAlternative {
  /** Options of the trainer, as they are written. */
  readonly options: string;
  readonly bytes: number;
}
/** The driver has no memory for what was asked; what was live before still is. */
export class OutOfMemoryError extends DeviceError {
  override name = "OutOfMemoryError";
  /** Bytes that were asked for together. */
  readonly askedBytes: number;
  /** Bytes that were live on the device when it was refused. */
  readonly liveBytes: number;
  /** What the plan needs as the run is, where a plan was to be run; and what it would need otherwise. */
  readonly plannedBytes: number | undefined;
  readonly alternatives: readonly MemoryAlternative[];

  constructor(
    fact: string,
    remedy: string,
    told: {
      readonly askedBytes: number;
      readonly liveBytes: number;
      readonly plannedBytes?: number;
      readonly alternatives?: readonly MemoryAlternative[];
    },
    options?: ErrorOptions,
  ) {
    super(fact, remedy, options);
    this.askedBytes = told.askedBytes;
    this.liveBytes = told.liveBytes;
    this.plannedBytes = told.plannedBytes;
    this.alternatives = told.alternatives ?? [];
  }
}
/** A kernel that does not compile or whose bindings do not match its declaration. */
export class KernelError extends SafetapeError {
  override name = "KernelError";
}
/** A file or directory that is missing, damaged, or not what it says it is. */
export class FileFormatError extends SafetapeError {
  override name = "FileFormatError";
}
/** A download that failed: no such model, no permission, a server that does not answer, bytes that are not what it promised. */
export class DownloadError extends SafetapeError {
  override name = "DownloadError";
}
/** Training data that cannot be used: empty files, bad lines, labels or ids out of range. */
export class DataError extends SafetapeError {
  override name = "DataError";
}
/** A configuration that names something unknown: a model type, an activation, an adapter target, an option. */
export class ConfigError extends SafetapeError {
  override name = "ConfigError";
}
/** Use of a tensor, trainer or engine after `dispose`. */
export class DisposedError extends SafetapeError {
  override name = "DisposedError";
}
/** A loss or gradient that is not finite; the state of the last good step is kept. */
export class NotFiniteError extends SafetapeError {
  override name = "NotFiniteError";
  /** "loss" or "gradient norm". */
  readonly what: string;
  readonly value: number;

  constructor(
    fact: string,
    remedy: string,
    /** Index of the step that was not finite, from 0. */
    readonly step: number,
    { what, value, ...options }: { readonly what: string; readonly value: number } & ErrorOptions,
  ) {
    super(fact, remedy, options);
    this.what = what;
    this.value = value;
  }
}
