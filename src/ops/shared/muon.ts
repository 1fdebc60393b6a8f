import kernel from "../../../kernels/muon.wgsl";
import type { Launch } from "../../op/launch";
import type { Limits } from "../../op/limits";
import { elementwiseLaunches } from "./elementwise";
import type { Elementwise } from "./elementwise";

type MuonParams = Partial<Record<"start" | "n" | "momentum" | "is_nesterov" | "weight_decay" | "scale", number>>;

/** The launches of one of the kernel's entries. @param params what its params differ from 0 in, for a range of rows. */
export const muonLaunches = (
  entry: Omit<Elementwise, "kernel" | "params">,
  params: (start: number) => MuonParams,
  limits: Limits,
): Launch[] =>
  elementwiseLaunches(
    {
      kernel,
      ...entry,
      params: ({ start }) => ({
        start: 0,
        n: 0,
        momentum: 0,
        is_nesterov: 0,
        weight_decay: 0,
        scale: 0,
        ...params(start),
      }),
    },
    limits,
  );
