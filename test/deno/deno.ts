import { spawn } from "node:child_process";
import { join } from "node:path";
import { createInterface } from "node:readline";
import type { Caller, Functions, PageServer } from "../browser/support/session";

const MARK = "result of a page: ";

/** Deno with the script of a page. */
export interface DenoPage<P extends Functions> {
  readonly call: Caller<P>;
  close(): void;
}

/** Starts Deno, whose WebGPU is wgpu with naga as in Firefox, and runs the script of a page in it. */
export function openInDeno<P extends Functions>(server: PageServer, script: string): DenoPage<P> {
  const args = [
    ...["run", "--quiet", "--no-config", "--no-lock", "--no-prompt", "--unstable-webgpu"],
    ...["--allow-env", "--allow-net=127.0.0.1", "--allow-import=127.0.0.1", `--location=${server.url}/`],
    ...["test/deno/call-page.mjs", `${server.url}/files/pages/${script}.js`, MARK],
  ];
  const deno = spawn(join("node_modules", ".bin", "deno"), args, {
    stdio: ["pipe", "pipe", "pipe"],
    env: { ...process.env, DENO_DIR: join(server.files, "deno"), DENO_NO_UPDATE_CHECK: "1" },
  });
  let problems = "";
  deno.stderr.on("data", (text) => (problems += String(text)));
  const ended = new Promise<never>((_resolve, reject) => {
    deno.on("error", reject);
    deno.on("exit", (code) => reject(new Error(`Deno ended with code ${code ?? "none"}.\n${problems}`)));
  });
  // Ending it at the close of the tests is no failure.
  ended.catch(() => undefined);
  const lines = createInterface({ input: deno.stdout })[Symbol.asyncIterator]();
  const nextResult = async (): Promise<string> => {
    for (let line = await lines.next(); !line.done; line = await lines.next()) {
      if (line.value.startsWith(MARK)) return line.value.slice(MARK.length);
    }
    return ended;
  };
  const call = async (name: string, args: unknown[]): Promise<unknown> => {
    deno.stdin.write(`${JSON.stringify([name, args])}\n`);
    // The results are those of call-page.mjs.
    const { value, error } = JSON.parse(await Promise.race([nextResult(), ended])) as {
      value: unknown;
      error?: string;
    };
    if (error !== undefined) throw new Error(`${script}.${name}: ${error}`);
    return value;
  };
  return {
    // JSON cannot relate the types of results to names of functions in the page.
    call: call as Caller<P>,
    close: () => void deno.kill(),
  };
}
