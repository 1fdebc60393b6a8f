// What was taken away from the studio, in Node: it must make the same of the run's rows as the page did.
import { cpSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Page } from "playwright-core";
import { loadAdapter, loadModel, lora, openDirectory, Trainer } from "safetape";
import type { Engine } from "safetape";
import { Batches, ImageBatches, normalisePixels } from "safetape/data";
import type { Sample } from "safetape/data";
import * as v from "valibot";
import { expect } from "vitest";
import { LABEL_KINDS } from "../../../src/data/batch";
import type { Model } from "../../../src/model/model";
import { parseJson } from "../../support/json";
import { lastResult, takeInto } from "./studio";

/** Decimals of logits and losses that must agree between the page, Node and what was merged. */
const DIGITS = 4;

const RUN = v.object({ hasEnded: v.boolean(), bestStep: v.number(), after: v.looseObject({ loss: v.number() }) });
const IDS = v.pipe(
  v.array(v.number()),
  v.transform((ids) => Int32Array.from(ids)),
);
const ROW = v.object({ ids: v.optional(IDS), typeIds: v.optional(IDS), label: v.union([v.number(), IDS]) });

interface Taken {
  /** The folder of the model that was trained. */
  readonly model: string;
  /** A folder, in which each file has its own. */
  readonly folder: string;
  /** What else a Python program is to repeat. */
  readonly further?: Readonly<Record<string, unknown>>;
}

/**
 * Takes the adapter, the merged model and the programs away, evaluates adapter and merged model in Node on the rows that the page evaluated
 * on, and writes what `test/interop/studio.py` compares.
 */
export async function checkTaken(engine: Engine, page: Page, { model, folder, further = {} }: Taken): Promise<void> {
  const { after } = await lastResult(page, RUN);
  for (const what of ["adapter", "merged", "repeat"]) await takeInto(page, what, join(folder, what));
  const withAdapter = await evaluated(engine, model, join(folder, "repeat"), join(folder, "adapter"));
  const merged = await evaluated(engine, join(folder, "merged"), join(folder, "repeat"));
  expect(withAdapter.loss, "loss of the adapter in Node").toBeCloseTo(after.loss, DIGITS);
  expect(merged.loss, "loss of the merged model in Node").toBeCloseTo(after.loss, DIGITS);
  merged.logits.forEach((logit, i) => expect(logit, `logit ${i}`).toBeCloseTo(withAdapter.logits[i]!, DIGITS));
  cpSync(model, join(folder, "model"), { recursive: true });
  const expected = { loss: after.loss, logits: withAdapter.logits, ...further };
  writeFileSync(join(folder, "expected.json"), JSON.stringify(expected));
}

/** Loss and, of classifiers, logits on the rows that the programs evaluate on. */
async function evaluated(
  engine: Engine,
  folder: string,
  programs: string,
  adapterFolder?: string,
): Promise<{ readonly loss: number; readonly logits: readonly number[] }> {
  using loaded = await loadModel(engine, folder);
  const given = adapterFolder === undefined ? undefined : await loadAdapter(await openDirectory(adapterFolder), loaded);
  // A LoRA that was not trained changes nothing.
  const { adapter = lora({ rank: 1 }), tensors: initial } = given ?? {};
  const data = batchesOf(loaded.model, programs);
  using trainer = await Trainer.create({ model: loaded, adapter, ...(initial && { initial }), data, steps: 1 });
  const logits: number[] = [];
  const rows = batchesOf(loaded.model, programs).restOfEpoch();
  const { loss } = await trainer.evaluate(rows, (_batch, values) => logits.push(...values));
  return { loss, logits };
}

/** The rows that the programs evaluate on. */
function batchesOf(model: Model, programs: string): Batches | ImageBatches {
  const lines = readFileSync(join(programs, "dev.jsonl"), "utf8").trim().split("\n");
  const rows = lines.map((line) => v.parse(ROW, parseJson(line)));
  // One by one: a last batch that is not full would have further rows, which mean nothing.
  const order = { size: 1, shuffle: false };
  const { image } = model;
  if (!image) {
    const samples = rows.map(({ ids = new Int32Array(), typeIds, label }): Sample => ({
      ids,
      ...(typeIds && { typeIds }),
      label,
    }));
    return new Batches(samples, { ...order, padId: model.padId, labels: LABEL_KINDS[model.task] });
  }
  const bytes = readFileSync(join(programs, "dev.bin"));
  const size = image.channels * image.size ** 2;
  const images = rows.map(({ label }, i) => ({
    label: Number(label),
    pixels: normalisePixels(bytes.subarray(i * size, (i + 1) * size), image.channels),
  }));
  return new ImageBatches(images, model, order);
}
