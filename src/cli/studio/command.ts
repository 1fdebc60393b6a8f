import { spawn } from "node:child_process";
import { stat } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { STUDIO } from "../flags";
import { readOptions, UsageError } from "../options";
import type { Print, RawOptions } from "../options";
import { serveStudio } from "./server";

/** `safetape studio`: serves the page that fine-tunes in a browser, until it is interrupted. */
export async function studioCommand(raw: RawOptions, print: Print): Promise<void> {
  const { port, open } = readOptions(STUDIO, raw);
  // Beside this program in the package.
  const folder = fileURLToPath(new URL("studio", import.meta.url));
  if (!(await stat(folder).catch(() => undefined))?.isDirectory()) {
    throw new UsageError(
      `The studio's files are not in ${folder}.`,
      "Run npm run build, or install the package again.",
    );
  }
  const server = await serveStudio(folder, port);
  print(server.url);
  process.stderr.write(
    "Open it in a browser with WebGPU. Ctrl-C ends the server; what the page stored stays in the browser.\n",
  );
  if (open) openBrowser(server.url);
  await new Promise<void>((resolve) => void process.once("SIGINT", resolve).once("SIGTERM", resolve));
  await server.close();
}

/** Programs that open an address in the browser of the desktop. */
const OPENERS: Readonly<Partial<Record<NodeJS.Platform, readonly string[]>>> = {
  darwin: ["open"],
  win32: ["explorer.exe"],
};

function openBrowser(url: string): void {
  const [program = "xdg-open", ...args] = OPENERS[process.platform] ?? [];
  const child = spawn(program, [...args, url], { stdio: "ignore", detached: true });
  child.once("error", () => process.stderr.write(`${program} is not there: open ${url} yourself.\n`));
  child.unref();
}
