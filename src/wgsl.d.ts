// Kernels are plain .wgsl files; the bundler and the test runner make modules of them (scripts/wgsl-modules.mjs).
declare module "*.wgsl" {
  const kernel: import("./op/kernel").Kernel;
  export default kernel;
}
