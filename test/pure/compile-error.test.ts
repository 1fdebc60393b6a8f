import { describe, expect, it } from "vitest";
import { KernelError } from "safetape/engine";
import { compileError, pipelineError } from "../../src/gpu/compile-error";
import { composeKernel } from "../../src/gpu/compose";
import { kernelInterface, withConstants } from "../../src/gpu/wgsl";

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

  it("is reported at the line of the part that holds it, with neighbours of the same file", () => {
    const part = { name: "lib/twice", code: "// Doubles.\nfn twice(x: f32) -> f32 {\n  return 2.0 * y;\n}\n" };
    const importing = { name: "made_up", code: "#import lib/twice\n@compute fn forward() {}", imports: [part] };
    const { code } = composeKernel(importing);
    const error = compileError(importing, code, { message: "unresolved value 'y'", lineNum: 3, linePos: 16 });
    expect(error.fact.split("\n")[0]).toBe("kernels/lib/twice.wgsl:3:16: unresolved value 'y'");
    const refused = pipelineError(importing, code, "forward", new Error("too large"));
    expect(refused.fact).toBe(
      "kernels/made_up.wgsl:2: no pipeline for entry forward: too large\n2 | @compute fn forward() {}",
    );
  });
});

describe("a kernel of parts", () => {
  const inner = { name: "lib/inner", code: "const INNER: u32 = 1u;" };
  const outer = { name: "lib/outer", code: "#import lib/inner\nconst OUTER: u32 = 2u;", imports: [inner] };

  it("has every part once, at its first import, with the origin of each line", () => {
    const kernel = {
      name: "k",
      code: "// k\n#import lib/outer\n#import lib/inner\nfn f() {}",
      imports: [inner, outer],
    };
    expect(composeKernel(kernel)).toEqual({
      code: "// k\nconst INNER: u32 = 1u;\nconst OUTER: u32 = 2u;\nfn f() {}",
      origins: [
        { file: "k.wgsl", line: 1 },
        { file: "lib/inner.wgsl", line: 1 },
        { file: "lib/outer.wgsl", line: 2 },
        { file: "k.wgsl", line: 4 },
      ],
    });
    expect(withConstants(kernel, { INNER: 7, OUTER: 8 })).toContain("const INNER: u32 = 7u;\nconst OUTER: u32 = 8u;");
  });

  it("is refused without one of its parts", () => {
    expect(() => composeKernel({ name: "k", code: "\n#import lib/none", imports: [inner] })).toThrow(
      new KernelError(
        "kernels/k.wgsl:2: there is no part lib/none.",
        "Import a file of kernels/lib, or give the kernel's `imports` a part of this name.",
      ),
    );
  });
});

describe("comments", () => {
  const code = [
    "/* @group(0) @binding(0) var<storage, read> hidden: array<f32>;",
    "const GROUP: u32 = 1u;",
    "/* one inside another */ struct Params { never: u32 } */",
    "// struct Params { nor_this: u32 }",
    "struct Params { count: u32 } // */",
    "@group(0) @binding(1) var<storage, read_write> y: array<f32>;",
    "// @group(0) @binding(2) var<uniform> params: Never;",
    "@group(0) @binding(2) var<uniform> params: Params;",
    "const GROUP: u32 = 64u; // the real one",
  ].join("\n");

  it("are no declarations", () => {
    const { bindings, params } = kernelInterface({ name: "commented", code });
    expect([...bindings.keys()]).toEqual(["y"]);
    expect(params).toEqual([{ name: "count", type: "u32" }]);
  });

  it("keep what they say when a constant is replaced", () => {
    expect(withConstants({ name: "commented", code }, { GROUP: 8 })).toBe(
      code.replace("const GROUP: u32 = 64u;", "const GROUP: u32 = 8u;"),
    );
  });
});
