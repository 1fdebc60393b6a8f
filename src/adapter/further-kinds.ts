// Kinds of adapters whose code loads when a file of their kind is met: one chunk for all, since each is small.
export { adaloraFromConfig } from "./adalora";
export { afloraFromConfig } from "./aflora";
export { bottleneckFromConfig } from "./bottleneck";
export { meftFromConfig } from "./meft";
export { promptFromConfig } from "./prompt";
export { soraFromConfig } from "./sora";
export { veraFromConfig } from "./vera";
