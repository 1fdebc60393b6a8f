import type { Trainer } from "safetape";

/** The values of all tensors that a trainer trains, in one list. */
export async function trainedValues({ state }: Trainer): Promise<number[]> {
  return [...(await state.snapshot()).values()].flatMap(({ data }) => [...data]);
}
