// @ts-check
// A child process of probe.mjs: asks Dawn for an adapter of the driver that the environment selects, and prints its
// description as JSON, or null. If the driver crashes, only this process ends.
import { create } from "webgpu";

const gpu = create([]);
const adapter = await gpu.requestAdapter({ powerPreference: "high-performance" });
const info = adapter?.info;
const description = info && {
  vendor: info.vendor,
  architecture: info.architecture,
  device: info.device,
  description: info.description,
  isFallbackAdapter: info.isFallbackAdapter,
};
process.stdout.write(JSON.stringify(description ?? null));
