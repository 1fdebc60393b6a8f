import { readFile } from "node:fs/promises";
import { basename } from "node:path";
import { downloadModel } from "../node/index";
import { textOption, UsageError } from "./options";
import type { Given } from "./options";
import { bar } from "./view/bars";
import { Screen } from "./view/screen";

const BAR = 24;

interface FileProgress {
  readonly file: string;
  readonly done: number;
  readonly size: number;
}

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
  const screen = new Screen(given["quiet"] === true);
  try {
    const told = await downloadModel(repo, out, {
      revision: textOption(given, "revision", "--revision", "main"),
      ...(token === undefined ? {} : { token }),
      ...(hubUrl === undefined || hubUrl === "" ? {} : { hubUrl }),
      onProgress: progressOn(screen),
    });
    screen.end();
    if (given["json"]) print(JSON.stringify({ repo, out, ...told }));
    else print(`${out}: ${told.files.join(", ")}; ${megabytes(told.bytes)} MB of commit ${told.commit.slice(0, 12)}`);
  } finally {
    screen.end();
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

/** How far the present file is: a bar in a terminal, a line for each tenth elsewhere. */
function progressOn(screen: Screen): (progress: FileProgress) => void {
  let last = "";
  return ({ file, done, size }) => {
    const share = done / Math.max(1, size);
    const told = `${file}  ${megabytes(done)}/${megabytes(size)} MB`;
    screen.show("download", [`${bar(share, BAR)} ${Math.floor(100 * share)} %  ${told}`]);
    const tenth = `${file} ${Math.floor(10 * share)}`;
    if (!screen.isLive && tenth !== last) screen.say(told);
    last = tenth;
  };
}
