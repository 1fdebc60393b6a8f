import { describe, expect, it } from "vitest";
import { KernelError } from "safetape";
import { compileError, pipelineError } from "../../src/gpu/compile-error";

const CODE = "const GROUP: u32 = 64u;\nfn twice(x: f32) -> f32 {\n  return 2.0 * y;\n}\n@compute fn forward() {}\n";
const kernel = { name: "made_up", code: CODE };

describe("a kernel that does not compile", () => {
  it("is reported with file, line, column and the lines around", () => {
    const error = compileError(kernel, CODE, { message: "unresolved value 'y'", lineNum: 3, linePos: 16 });
    expect(error).toBeInstanceOf(KernelError);
    expect(error.fact.split("\n")).toEqual([
      "kernels/made_up.wgsl:3:16: unresolved value 'y'",
      "2 | fn twice(x: f32) -> f32 {",
      "3 |   return 2.0 * y;",
      "  |                ^",
      "4 | }",
    ]);
  });

  it("is reported with fewer lines at the ends of the file, and without lines where the compiler names none", () => {
    const at = (lineNum: number): string[] =>
      compileError(kernel, CODE, { message: "m", lineNum, linePos: 1 }).fact.split("\n");
    expect(at(1)).toHaveLength(4);
    expect(at(0)).toEqual(["kernels/made_up.wgsl: m"]);
  });

  it("is reported at its entry where only the pipeline is refused", () => {
    const error = pipelineError(kernel, CODE, "forward", new Error("too many invocations"));
    expect(error.fact).toMatch(/^kernels\/made_up\.wgsl:5: no pipeline for entry forward: too many invocations\n/);
    expect(error.fact).toContain("5 | @compute fn forward() {}");
  });
});
