import { readFile } from "node:fs/promises";
import { basename } from "node:path";
import { SingleBar } from "cli-progress";
import { downloadModel } from "../node/index";
import { textOption, UsageError } from "./options";
import type { Given } from "./options";

const megabytes = (bytes: number): string => (bytes / 1e6).toFixed(1);

/** `safetape download OWNER/NAME`: a model of the Hugging Face Hub, checked, into a directory. */
export async function downloadCommand(
  repo: string | undefined,
  given: Given,
  print: (line: string) => void,
): Promise<void> {
  if (repo === undefined)
    throw new UsageError("No model is named.", "Give it as OWNER/NAME: safetape download OWNER/NAME.");
  const out = textOption(given, "out", "--out", basename(repo));
  const token = await tokenOption(given);
  const hubUrl = process.env["HF_ENDPOINT"];
  const view = new DownloadView(given["quiet"] === true);
  try {
    const told = await downloadModel(repo, out, {
      revision: textOption(given, "revision", "--revision", "main"),
      ...(token === undefined ? {} : { token }),
      ...(hubUrl === undefined || hubUrl === "" ? {} : { hubUrl }),
      onProgress: (progress) => view.show(progress),
    });
    view.stop();
    if (given["json"]) print(JSON.stringify({ repo, out, ...told }));
    else print(`${out}: ${told.files.join(", ")}; ${megabytes(told.bytes)} MB of commit ${told.commit.slice(0, 12)}`);
  } finally {
    view.stop();
  }
}

/** From `--token-file`, or the environment: on the command line, other users of the machine could read it. */
async function tokenOption(given: Given): Promise<string | undefined> {
  if (given["tokenFile"] === undefined) return process.env["HF_TOKEN"] || undefined;
  const path = textOption(given, "tokenFile", "--token-file");
  const text = await readFile(path, "utf8").catch(() => {
    throw new UsageError(`The file ${path} cannot be read.`, "Give a file that holds the token alone.");
  });
  if (text.trim() !== "") return text.trim();
  throw new UsageError(`The file ${path} is empty.`, "Give a file that holds the token alone.");
}

/** Progress on stderr: a bar in a terminal, a line for each file and tenth elsewhere. */
class DownloadView {
  #bar: SingleBar | undefined;
  #told = "";

  constructor(private readonly isQuiet: boolean) {}

  show({ file, done, size }: { readonly file: string; readonly done: number; readonly size: number }): void {
    if (this.isQuiet) return;
    const told = `${file}  ${megabytes(done)}/${megabytes(size)} MB`;
    if (process.stderr.isTTY) {
      this.#bar ??= new SingleBar({ format: "{bar} {percentage}% {told}", stream: process.stderr });
      if (!this.#bar.isActive || this.#told !== file) this.#bar.start(size, done, { told });
      else this.#bar.update(done, { told });
      this.#told = file;
      return;
    }
    const tenth = `${file} ${Math.floor((10 * done) / Math.max(1, size))}`;
    if (tenth !== this.#told) process.stderr.write(`${told}\n`);
    this.#told = tenth;
  }

  stop(): void {
    this.#bar?.stop();
  }
}
