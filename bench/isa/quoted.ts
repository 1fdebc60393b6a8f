/** Figures of shaders that cannot be caught here, measured in the same way from what the libraries hand to WebGPU. */
export const QUOTED_ORIGIN = "measured in the same way on RDNA3 on 2026-11-28, Mesa 25.0.7";

export interface QuotedFigures {
  readonly shader: string;
  readonly registers: string;
  readonly waves: string;
  readonly fmaPerValu: string;
  readonly ldsBytesPerFma: string;
}

export const QUOTED: readonly QuotedFigures[] = [
  {
    shader: "onnxruntime-web 1.30, MatMul 4 x 4",
    registers: "60",
    waves: "8",
    fmaPerValu: "0.889",
    ldsBytesPerFma: "2.0",
  },
  {
    shader: "torchlette, product 4 x 4",
    registers: "36",
    waves: "16 to 32",
    fmaPerValu: "0.80",
    ldsBytesPerFma: "2.0",
  },
  {
    shader: "torchlette, attention: forward; dq; dk and dv (head 64)",
    registers: "84; 96; 120",
    waves: "18; 16; 12",
    fmaPerValu: "0.95; 0.66; 0.71",
    ldsBytesPerFma: "4.0; 2.7; 2.2",
  },
  {
    shader: "llama.cpp, register tile 4 x 4; 8 x 8",
    registers: "48; 108",
    waves: "32; 8",
    fmaPerValu: "0.39; 0.56",
    ldsBytesPerFma: "1.0; 0.5",
  },
  {
    shader: "llama.cpp, flash attention tile (head 64)",
    registers: "60",
    waves: "24",
    fmaPerValu: "0.17",
    ldsBytesPerFma: "5.9",
  },
];
