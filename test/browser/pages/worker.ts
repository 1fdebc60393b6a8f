// A module worker that trains.
import { createEngine } from "safetape";
import { evalOutcome, tinyRun } from "./tiny-run";

// The compiler's library for pages does not have the worker's `postMessage`.
const scope = globalThis as unknown as { postMessage(message: unknown): void };
try {
  using engine = await createEngine();
  scope.postMessage({ run: await tinyRun(engine), forbidden: evalOutcome() });
} catch (error) {
  scope.postMessage({ error: String(error) });
}
