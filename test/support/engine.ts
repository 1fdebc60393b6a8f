import { afterAll, afterEach, beforeAll, beforeEach, expect } from "vitest";
import { Engine } from "../../src/engine";
import type { Device } from "../../src/gpu/device";
import type { Ledger } from "../../src/gpu/ledger";
import type { VariantChoice } from "../../src/gpu/variants";
import type { Limits } from "../../src/op/limits";
import { testDevice } from "./device";

interface EngineOptions {
  /** Opens the next device when one is lost. Default: the engine cannot replace its device. */
  readonly reopen?: () => Promise<Device>;
}

/**
 * An engine for all tests of a file, on the adapter that the test project names. Each test starts with a new peak of memory
 * and must end with as many live bytes as it started with; after the last test, none may be live.
 *
 *     const engine = await useEngine();
 *
 * @throws Error if there is no such adapter.
 */
export async function useEngine({ reopen }: EngineOptions = {}): Promise<Engine> {
  const engine = new Engine(await testDevice(), reopen);
  // A new device has a new ledger.
  checkLedger(() => engine.ledger);
  afterAll(() => engine.dispose());
  return engine;
}

/** As `useEngine`, for the tests of one suite of a file: opened before the first of them and closed after the last. */
export function useEngineOfSuite({ reopen }: EngineOptions = {}): () => Engine {
  let engine: Engine | undefined;
  const opened = (): Engine => engine!;
  beforeAll(async () => void (engine = new Engine(await testDevice(), reopen)));
  checkLedger(() => opened().ledger);
  afterAll(() => opened().dispose());
  return opened;
}

/**
 * A device for all tests of a file, under the rules of `useEngine`; `limits` lowers those of the adapter, `variants` chooses
 * kernels.
 */
export async function useDevice(limits: Partial<Limits> = {}, variants?: VariantChoice): Promise<Device> {
  const device = await testDevice(limits, variants);
  checkLedger(() => device.pool.ledger);
  afterAll(() => device.close());
  return device;
}

function checkLedger(ledger: () => Ledger): void {
  let before = 0;
  beforeEach(() => {
    ledger().resetPeak();
    before = ledger().liveBytes;
  });
  afterEach(() => {
    expect(ledger().liveBytes, "live bytes after the test").toBe(before);
  });
  // Hooks of one kind run in reverse order: this one runs after those in which a file disposes of what its tests share.
  afterAll(() => {
    expect(ledger().liveBytes, "live bytes after all tests").toBe(0);
    expect(ledger().buffers, "buffers after all tests").toBe(0);
  });
}
