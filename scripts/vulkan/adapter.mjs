// @ts-check
// Run as a child process by probe.mjs: asks Dawn for an adapter under the driver named in the environment, and prints
// what it got as JSON. A driver that crashes takes only this process along.
import { create } from "webgpu";

const gpu = create([]);
const adapter = await gpu.requestAdapter({ powerPreference: "high-performance" });
const info = adapter?.info;
const found = info && {
  vendor: info.vendor,
  architecture: info.architecture,
  device: info.device,
  description: info.description,
  isFallbackAdapter: info.isFallbackAdapter,
};
process.stdout.write(JSON.stringify(found ?? null));
