import { afterAll, beforeAll, expect, it } from "vitest";
import { GOLDEN_LIMITS } from "../../scripts/golden-file";
import type { PublishedPage } from "../browser/pages/published";
import { servePages } from "../browser/support/session";
import type { PageServer } from "../browser/support/session";
import { writeGoldenStart } from "../support/golden-start";
import { publishedFolder } from "../support/published";
import { some } from "../support/long";
import { openInDeno } from "./deno";
import type { DenoPage } from "./deno";

const GOLDEN = some(["llama-lora", "bert-lora"], 2);

let server: PageServer;
let deno: DenoPage<PublishedPage>;

beforeAll(async () => {
  publishedFolder();
  server = await servePages(["published"]);
  for (const name of GOLDEN) await writeGoldenStart(name, server.files);
  deno = openInDeno(server, "published");
});
afterAll(async () => {
  deno.close();
  await server.close();
});

it.each(GOLDEN)("the published bundle in Deno has the golden run of float64 PyTorch: %s", async (name) => {
  const errors = await deno.call("golden", [name]);
  expect(errors.loss).toBeLessThanOrEqual(GOLDEN_LIMITS.loss);
  expect(errors.final).toBeLessThanOrEqual(GOLDEN_LIMITS.final);
  expect(errors.left, "bytes left in the ledger").toBe(0);
});
