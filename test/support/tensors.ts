import type { Trainer } from "safetape";
import type { Tensor } from "../../src/tensor";

/** The values of a tensor that holds floats. */
export async function floatsOf(tensor: Tensor | undefined): Promise<Float32Array> {
  const data = await tensor?.read();
  if (!(data instanceof Float32Array))
    throw new Error(`This is not a tensor of floats: ${tensor?.dtype ?? "nothing"}.`);
  return data;
}

/** The values of all tensors that a trainer trains, one after the other. */
export async function trainedValues({ state }: Trainer): Promise<number[]> {
  return [...(await state.snapshot()).values()].flatMap(({ data }) => [...data]);
}
