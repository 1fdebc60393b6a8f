// Kernels are plain .wgsl files; the bundler and the test runner hand them over as text.
declare module "*.wgsl" {
  const code: string;
  export default code;
}
