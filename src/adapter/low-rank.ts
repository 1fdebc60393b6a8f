import type { FloatTensor } from "../io/safetensors";

/** diag(rows) B diag(columns) on the host; either may be left out. B [out, r]. */
export function scaledProduct(b: FloatTensor, rows: FloatTensor | undefined, columns: FloatTensor): FloatTensor {
  const width = b.shape[1] ?? 1;
  const factor = (i: number): number => (rows ? rows.data[Math.floor(i / width)]! : 1) * columns.data[i % width]!;
  return { shape: b.shape, data: b.data.map((value, i) => value * factor(i)) };
}
