import { describe, expect, it } from "vitest";
import { lora } from "safetape";
import { dispatches } from "../../bench/support/dispatches";
import before from "../../bench/results/dispatches-before.json";
import { readJson } from "../support/json";
import type { Config } from "../support/tiny";

/** Largest share of the dispatches that a step took when each tensor had an update and every launch a dispatch of its own. */
const LARGEST_SHARE = 0.5;

describe("dispatches of a LoRA step on all projections", () => {
  it.each(before.results)("$model: three a layer for norm, clipping and update", (row) => {
    const config = readJson<Config>(`bench/configs/${row.model}.json`);
    const adapter = lora({ rank: 4, targets: "all-linear" });
    const weights = row.weights === "nf4" ? "nf4" : "f32";
    const { tensors, phases, total } = dispatches({ ...row, config, adapter, weights });
    const layers = Number(config["num_hidden_layers"]);
    // A classifier's head learns too.
    const places = row.model === "bert-base" ? layers + 1 : layers;
    expect(tensors).toBe(row.tensors);
    expect([phases["norm"], phases["update"]]).toEqual([2 * places, places]);
    expect(total / row.total).toBeLessThan(LARGEST_SHARE);
  });
});
