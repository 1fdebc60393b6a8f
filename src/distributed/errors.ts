import { SafetapeError } from "../base/errors";

/** A run of several devices that this one cannot enter, or that does not answer. */
export class DistributedError extends SafetapeError {
  override name = "DistributedError";
}
