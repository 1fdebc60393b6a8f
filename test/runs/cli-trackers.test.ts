import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import type { Server } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { afterEach, describe, expect, it, vi } from "vitest";
import { useFolder } from "../support/folder";
import { jsonLines, runCli } from "../support/cli";
import { parseJson } from "../support/json";
import { writeSentiment } from "../support/model-folder";

const path = useFolder();

/** A run of four steps, with an evaluation after two. */
const command = (...options: string[]): string[] => [
  ...[
    "train",
    "--model",
    "examples/model",
    "--task",
    "sst2",
    "--data",
    writeSentiment(path(), 32),
    "--out",
    path("out"),
  ],
  ...["--epochs", "1", "--batch", "8", "--eval-every", "2", "--rank", "2", "--quiet", ...options],
];

interface Logged {
  readonly step: number;
  readonly scalars: Readonly<Record<string, number>>;
}

/** A plugin whose trackers write what they are given into files; the second one fails at the third step. */
const PLUGIN = `
import { appendFileSync, writeFileSync } from "node:fs";
const into = (name, last) => (run) => {
  writeFileSync(name + ".json", JSON.stringify(run));
  return {
    log(step, scalars) {
      if (step > last) throw new Error("no answer");
      appendFileSync(name + ".jsonl", JSON.stringify({ step, scalars }) + "\\n");
    },
    end: () => writeFileSync(name + ".end", ""),
  };
};
export const trackers = { mine: into("MINE", Infinity), frail: into("FRAIL", 2) };
`;

describe("safetape train --report-to", () => {
  it("reports to trackers of plugins and to TensorBoard, and goes on without one that fails", async () => {
    writeFileSync(
      path("own.mjs"),
      PLUGIN.replaceAll(/MINE|FRAIL/g, (name) => path(name.toLowerCase())),
    );
    const args = command("--plugin", path("own.mjs"), "--report-to", "mine,frail,tensorboard", "--seed", "3");
    const { code, stderr } = await runCli(args);
    expect(code, stderr).toBe(0);
    expect(stderr).toBe(`the run goes on without frail: no answer`);
    const lines = jsonLines<Logged>(readFileSync(path("mine.jsonl"), "utf8"));
    expect(lines.filter(({ scalars }) => "train/loss" in scalars).map(({ step }) => step)).toEqual([1, 2, 3, 4]);
    expect(lines.filter(({ scalars }) => "eval/accuracy" in scalars).map(({ step }) => step)).toEqual([2, 4]);
    const last = lines.at(-1)!;
    const record = parseJson<{ metrics: Logged["scalars"] }>(readFileSync(path("out/run.json"), "utf8"));
    expect(last).toMatchObject({
      step: 4,
      scalars: { "final/accuracy": record.metrics["accuracy"] },
    });
    expect(jsonLines<Logged>(readFileSync(path("frail.jsonl"), "utf8")).at(-1)!.step).toBe(2);
    expect([existsSync(path("mine.end")), existsSync(path("frail.end"))]).toEqual([true, false]);
    expect(parseJson(readFileSync(path("mine.json"), "utf8"))).toMatchObject({
      step: 0,
      options: { seed: 3, rank: 2 },
    });
    expect(readdirSync(path("out/tensorboard"))).toEqual([expect.stringMatching(/^events\.out\.tfevents\./)]);
  });

  it("takes a directory with event files for TensorBoard in place of them alone, since it shows the first settings of a directory", async () => {
    mkdirSync(path("board"));
    writeFileSync(path("board/events.out.tfevents.1.host.0"), "");
    writeFileSync(path("board/notes"), "");
    const args = command("--tensorboard", path("board"));
    const refused = await runCli(args);
    expect([refused.code, refused.stderr]).toEqual([
      2,
      expect.stringMatching(/has the event files of an earlier run\.\n/),
    ]);
    expect([existsSync(path("out")), readdirSync(path("board"))]).toEqual([
      false,
      ["events.out.tfevents.1.host.0", "notes"],
    ]);
    const { code, stderr } = await runCli([...args, "--overwrite"]);
    expect(code, stderr).toBe(0);
    const [first, ...others] = readdirSync(path("board"));
    expect([first === "events.out.tfevents.1.host.0", others]).toEqual([false, ["notes"]]);
  });

  it("refuses a tracker that nothing has, and Weights & Biases without a key, before anything is loaded", async () => {
    const unknown = await runCli(command("--report-to", "mlflow"));
    expect(unknown).toMatchObject({ code: 2, stderr: "--report-to is mlflow.\nIt may be tensorboard, wandb." });
    vi.stubEnv("WANDB_API_KEY", "");
    const keyless = await runCli(command("--report-to", "wandb"));
    expect(keyless.code).toBe(1);
    expect(keyless.stderr).toMatch(/WANDB_API_KEY is not set\.\nSet it/);
    expect(existsSync(path("out/adapter_model.safetensors"))).toBe(false);
  });
});

const KEY = "0123456789".repeat(4);
const isInstalled = existsSync(join("node_modules", "@wandb", "sdk"));
const title = isInstalled ? "Weights & Biases" : "Weights & Biases (skipped: @wandb/sdk is not installed)";

describe.runIf(isInstalled)(title, () => {
  let server: Server;
  afterEach(async () => {
    vi.unstubAllEnvs();
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
  });

  /** A server with the requests that the client makes. @param refused a status that it answers to the one that begins a run. */
  async function serve(refused?: number): Promise<{ path: string; body: string; key: string | undefined }[]> {
    const requests: { path: string; body: string; key: string | undefined }[] = [];
    const entity = { id: "1", entity: "me", flags: "", teams: { edges: [] } };
    const bucket = { id: "b", name: "r", displayName: "d", project: { name: "p", entity: { name: "me" } } };
    server = createServer((request, answer) => {
      let body = "";
      request.on("data", (part: Buffer) => (body += part.toString()));
      request.on("end", () => {
        requests.push({ path: request.url!, body, key: request.headers.authorization });
        const isBegin = body.includes("mutation UpsertBucket");
        answer.writeHead(isBegin ? (refused ?? 200) : 200, { "content-type": "application/json" });
        const data = isBegin ? { upsertBucket: { bucket, inserted: true } } : { viewer: entity };
        answer.end(JSON.stringify(isBegin && refused ? { errors: [{ message: "no" }] } : { data }));
      });
    });
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    // A server that listens on a port has an address of this form.
    vi.stubEnv("WANDB_BASE_URL", `http://127.0.0.1:${(server.address() as AddressInfo).port}`);
    vi.stubEnv("WANDB_API_KEY", KEY);
    vi.stubEnv("WANDB_PROJECT", "films");
    return requests;
  }

  it("has the options, every step, evaluations and the end", async () => {
    const requests = await serve();
    const { code, stdout, stderr } = await runCli(command("--report-to", "wandb", "--json"));
    expect(code, stderr).toBe(0);
    expect(jsonLines(stdout).length, "stdout has JSON alone").toBeGreaterThan(4);
    const begin = requests.find(({ body }) => body.includes("mutation UpsertBucket"))!;
    const { variables } = parseJson<{ variables: Record<string, string> }>(begin.body);
    expect(variables).toMatchObject({ project: "films", displayName: "lora on sst2", entity: "me" });
    expect(parseJson(variables["config"]!)).toMatchObject({ rank: 2, batch: 8, firstStep: 1 });
    const streams = requests.filter((request) => /^\/files\/me\/films\/\w+\/file_stream$/.test(request.path));
    const rows = streams.flatMap(({ body }) => {
      const { files } = parseJson<{ files?: Record<string, { content: string[] }> }>(body);
      return (files?.["wandb-history.jsonl"]?.content ?? []).map((row) => parseJson<Record<string, number>>(row));
    });
    expect(rows.filter((row) => "train/loss" in row).map((row) => row["_step"])).toEqual([1, 2, 3, 4]);
    expect(rows.filter((row) => "eval/accuracy" in row).map((row) => row["_step"])).toEqual([2, 4]);
    expect(rows.filter((row) => "final/accuracy" in row)).toHaveLength(1);
    expect(parseJson(streams.at(-1)!.body)).toEqual({ complete: true, exitcode: 0 });
    expect(new Set(requests.map(({ key }) => key))).toEqual(
      new Set([`Basic ${Buffer.from(`api:${KEY}`).toString("base64")}`]),
    );
  });

  it("ends the run before its first step where no run can be begun there", async () => {
    await serve(403);
    const { code, stderr } = await runCli(command("--report-to", "wandb"));
    expect(code).toBe(1);
    expect(stderr).toMatch(/^Weights & Biases begins no run: Fatal HTTP error \(403\)\.\nCheck WANDB_API_KEY, .*$/);
    expect(stderr).not.toContain(KEY);
  });
});
