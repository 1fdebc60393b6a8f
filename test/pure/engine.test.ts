import { afterEach, expect, it, vi } from "vitest";
import { createEngine } from "../../src/index";
import { DeviceError } from "../../src/entry/engine";
import { failure } from "../support/failure";

afterEach(() => vi.unstubAllGlobals());

it.each([
  ["there is no navigator, as in Node 20", undefined],
  ["the navigator has no WebGPU, as in older browsers and in later versions of Node", {}],
  ["WebGPU finds no adapter", { gpu: { requestAdapter: () => Promise.resolve(null) } }],
])("createEngine is refused where %s", async (_, navigator) => {
  vi.stubGlobal("navigator", navigator);
  const error = await failure(createEngine(), DeviceError);
  expect(error.fact).toBe("No WebGPU adapter was found.");
  expect(error.remedy).toMatch(/Install a Vulkan driver/);
});
