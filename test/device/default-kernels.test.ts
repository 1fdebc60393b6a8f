import { expect, it } from "vitest";
import { openDevice } from "../../src/gpu/device";
import type { DeviceOptions } from "../../src/gpu/device";
import { nodeGpu } from "../../src/node/gpu";
import type { Variant } from "../../src/op/launch";
import { linear } from "../../src/ops/linear";
import { plan } from "../../src/tape/plan";
import { Recorder } from "../../src/tape/tape";
import { claiming } from "../support/claimed-adapter";
import type { Claims } from "../support/claimed-adapter";

const gpu = await nodeGpu();
const actual = await gpu.requestAdapter();
const subgroup = actual?.info.subgroupMinSize ?? 0;

/** Width of a product that is large enough for a variant. */
const WIDTH = 128;

/** The device of an adapter with these claims, closed, and the variants by which it runs products. */
async function opened(claims: Claims, options: DeviceOptions = {}) {
  const device = await openDevice(claiming(gpu, claims), options);
  const recorder = new Recorder();
  const [x, w] = [recorder.input("x", [WIDTH, WIDTH]), recorder.input("w", [WIDTH, WIDTH])];
  const y = recorder.apply(linear, { x, w }, { layout: "out_in" });
  const { launches } = plan(recorder, { outputs: { y }, limits: device.limits });
  const launch = launches[0]!.launch;
  device.close();
  /** The choice among the launch's variants, each changed first. */
  const chosen = (change: (variant: Variant) => Variant = (variant) => variant): Variant | undefined =>
    device.variants({ ...launch, variants: (launch.variants ?? []).map(change) });
  return { device, chosen };
}

const GPU = {
  info: { vendor: "nobody", architecture: "", device: "made up", description: "a GPU", isFallbackAdapter: false },
};

it("a software adapter runs the kernel for its subgroups, and no such kernel where their size varies", async () => {
  const { device, chosen } = await opened({});
  expect(subgroup, "size of subgroups").toBeGreaterThan(1);
  expect(device.info).toMatchObject({ isSoftware: true, subgroup });
  expect(chosen()?.subgroup).toBe(subgroup);
  for (const claim of [{ subgroupMaxSize: 2 * subgroup }, { subgroupMinSize: subgroup / 2 }]) {
    for (const variants of [undefined, "subgroups", "gpu"] as const) {
      const varying = await opened({ info: claim }, { variants });
      expect(varying.device.info.subgroup).toBeUndefined();
      expect(varying.chosen((variant) => ({ ...variant, gpu: true }))?.subgroup).toBeUndefined();
    }
  }
});

it("a GPU runs the first variant that is marked for it, without a tuner; another vendor's row comes first", async () => {
  const { device, chosen } = await opened(GPU);
  expect(device.info.isSoftware).toBe(false);
  expect(device.tuner, "tuner").toBeUndefined();
  const marked = (variant: Variant): Variant => ({ ...variant, gpu: variant.name.startsWith("workgroup memory") });
  expect(chosen(marked)?.name).toMatch(/^workgroup memory/);
  expect(chosen((variant) => ({ ...variant, gpu: false }))).toBeUndefined();
  const arm = await opened({ info: { ...GPU.info, vendor: "arm" } });
  expect(arm.chosen(marked)).toBeUndefined();
  const tuned = await opened(GPU, { variants: "tuned" });
  expect(tuned.device.tuner, "tuner, if asked for").toBeDefined();
});

it("shader-f16 is requested where the adapter has it, and what needs it is chosen there alone", async () => {
  const needing = (variant: Variant): Variant => ({ ...variant, gpu: true, needs: ["shader-f16"] });
  const has = actual?.features.has("shader-f16") ?? false;
  const { device, chosen } = await opened(GPU);
  expect(device.handle.features.has("shader-f16")).toBe(has);
  expect(device.info.features).toEqual(has ? ["shader-f16"] : []);
  expect(chosen(needing) !== undefined).toBe(has);
  const without = await opened({ ...GPU, hidden: ["shader-f16"] });
  expect(without.device.handle.features.has("shader-f16")).toBe(false);
  expect(without.chosen(needing)).toBeUndefined();
});

it("products run in 16 bits where a user asks for that alone, and an adapter without shader-f16 refuses", async () => {
  const asked = { halfProducts: true };
  const without = opened({ ...GPU, hidden: ["shader-f16"] }, asked);
  await expect(without).rejects.toThrow(/^This adapter has no shader-f16, which halfProducts needs: a GPU/);
  if (!actual?.features.has("shader-f16")) return;
  expect((await opened(GPU)).chosen()?.half).toBeUndefined();
  const { chosen } = await opened(GPU, asked);
  expect(chosen()?.half).toBe(true);
  expect(chosen((variant) => ({ ...variant, flops: 1 }))).toBeUndefined();
});
