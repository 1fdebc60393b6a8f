// Kernels are plain .wgsl files; the bundler and the test runner make modules of them (scripts/wgsl-modules.mjs). What they
// export is a `Kernel` of op/kernel.ts, which a declaration for a pattern of files cannot import.
declare module "*.wgsl" {
  interface KernelFile {
    readonly name: string;
    readonly code: string;
    readonly imports: readonly KernelFile[];
  }
  const kernel: KernelFile;
  export default kernel;
}
