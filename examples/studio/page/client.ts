// Calls the worker's functions, and hands on what it says by itself.
import type { Api, Call, Fault, Message, StudioEvent } from "../protocol";

/** An error of the worker: one line of fact, one of remedy. */
export class StudioError extends Error {
  override name = "StudioError";

  constructor(readonly fault: Fault) {
    super(`${fault.fact}\n${fault.remedy}`);
  }
}

export class Client {
  readonly #worker: Worker;
  readonly #waiting = new Map<number, { resolve: (result: unknown) => void; reject: (error: Error) => void }>();
  #lastId = 0;
  /** Whether the worker has said anything, so that its file did load. */
  #isRunning = false;
  /** Why no call can be answered any more. */
  #fault: Fault | undefined;

  constructor(onEvent: (event: StudioEvent) => void) {
    this.#worker = new Worker(new URL("worker.js", import.meta.url), { type: "module", name: "safetape" });
    this.#worker.onmessage = ({ data }: MessageEvent<Message>) => {
      this.#isRunning = true;
      if ("event" in data) {
        onEvent(data.event);
        return;
      }
      const waiting = this.#waiting.get(data.id);
      this.#waiting.delete(data.id);
      if ("fault" in data) waiting?.reject(new StudioError(data.fault));
      else waiting?.resolve(data.result);
    };
    this.#worker.onerror = ({ message }) => {
      const fact = `The worker ${this.#isRunning ? "failed" : "cannot start"}: ${message || "its file did not load"}.`;
      const fault = {
        name: "Error",
        fact,
        remedy: "Reload the page; a static host must serve .js as text/javascript.",
      };
      if (!this.#isRunning) this.#fault = fault;
      for (const { reject } of this.#waiting.values()) reject(new StudioError(fault));
      this.#waiting.clear();
    };
  }

  /** Calls a function of the worker. @throws StudioError as the worker's function does. */
  call<Name extends keyof Api>(name: Name, ...args: Parameters<Api[Name]>): ReturnType<Api[Name]> {
    const id = ++this.#lastId;
    const call: Call = { id, name, args };
    const result = new Promise((resolve, reject) => {
      if (this.#fault) reject(new StudioError(this.#fault));
      else this.#waiting.set(id, { resolve, reject });
    });
    this.#worker.postMessage(call);
    // The worker answers with what the interface says.
    return result as ReturnType<Api[Name]>;
  }
}
