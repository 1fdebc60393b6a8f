// Kinds of adapters whose code loads when a file of their kind is met: one chunk for all, since each is small.
export { adaloraFromConfig } from "./adalora";
export { afloraFromConfig } from "./aflora";
export { bitfitFromConfig } from "./bitfit";
export { bottleneckFromConfig } from "./bottleneck";
export { doraFromConfig } from "./dora";
export { ia3FromConfig } from "./ia3";
export { lnTuningFromConfig } from "./ln-tuning";
export { lohaFromConfig } from "./loha";
export { lokrFromConfig } from "./lokr";
export { meftFromConfig } from "./meft";
export { oftFromConfig } from "./oft";
export { promptFromConfig } from "./prompt";
export { soraFromConfig } from "./sora";
export { veraFromConfig } from "./vera";
