/** Figures of shaders that cannot be caught here, measured in the same way from what the libraries hand to WebGPU. */
export const QUOTED_ORIGIN = "measured in the same way on RDNA3 on 2026-11-28, Mesa 25.0.7";

/** What a shader computes, as far as a kernel of this engine is compared with it. */
export type PeerWork = "product" | "attention forward" | "attention gradients";

export interface QuotedFigures {
  readonly peer: string;
  readonly shader: string;
  readonly work: PeerWork;
  readonly registers: number;
  readonly waves: string;
  readonly fmaPerValu: number;
  readonly ldsBytesPerFma: number;
  /** Why it is not caught. */
  readonly reason: string;
}

const UNPUBLISHED = "it is not on npm";
const NATIVE = "a native program, whose WebGPU shaders are templates that it fills when it runs";

/** Quoted where the peer is not caught. */
export const QUOTED: readonly QuotedFigures[] = [
  {
    peer: "onnxruntime-web",
    shader: "MatMul 4 x 4",
    work: "product",
    registers: 60,
    waves: "8",
    fmaPerValu: 0.889,
    ldsBytesPerFma: 2,
    reason: "its package, of 130 MB, was not installed",
  },
  {
    peer: "torchlette",
    shader: "product 4 x 4",
    work: "product",
    registers: 36,
    waves: "16 to 32",
    fmaPerValu: 0.8,
    ldsBytesPerFma: 2,
    reason: UNPUBLISHED,
  },
  {
    peer: "torchlette",
    shader: "attention forward (head 64)",
    work: "attention forward",
    registers: 84,
    waves: "18",
    fmaPerValu: 0.95,
    ldsBytesPerFma: 4,
    reason: UNPUBLISHED,
  },
  {
    peer: "torchlette",
    shader: "attention, dq (head 64)",
    work: "attention gradients",
    registers: 96,
    waves: "16",
    fmaPerValu: 0.66,
    ldsBytesPerFma: 2.7,
    reason: UNPUBLISHED,
  },
  {
    peer: "torchlette",
    shader: "attention, dk and dv (head 64)",
    work: "attention gradients",
    registers: 120,
    waves: "12",
    fmaPerValu: 0.71,
    ldsBytesPerFma: 2.2,
    reason: UNPUBLISHED,
  },
  {
    peer: "llama.cpp",
    shader: "register tile 4 x 4",
    work: "product",
    registers: 48,
    waves: "32",
    fmaPerValu: 0.39,
    ldsBytesPerFma: 1,
    reason: NATIVE,
  },
  {
    peer: "llama.cpp",
    shader: "register tile 8 x 8",
    work: "product",
    registers: 108,
    waves: "8",
    fmaPerValu: 0.56,
    ldsBytesPerFma: 0.5,
    reason: NATIVE,
  },
  {
    peer: "llama.cpp",
    shader: "flash attention tile (head 64)",
    work: "attention forward",
    registers: 60,
    waves: "24",
    fmaPerValu: 0.17,
    ldsBytesPerFma: 5.9,
    reason: NATIVE,
  },
];
