// A module worker that trains by itself.
import { createEngine } from "safetape";
import { tinyRun, triedEval } from "./tiny-run";

const scope = globalThis as unknown as { postMessage(message: unknown): void };
try {
  using engine = await createEngine();
  scope.postMessage({ run: await tinyRun(engine), forbidden: triedEval() });
} catch (error) {
  scope.postMessage({ error: String(error) });
}
