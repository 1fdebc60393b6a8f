import { basename } from "node:path";
import { downloadModel } from "../node/download";
import { DOWNLOAD } from "./flags";
import { readToken } from "./hub-token";
import { readOptions, UsageError } from "./options";
import type { Print, RawOptions } from "./options";
import { bar } from "./view/bars";
import { Screen } from "./view/screen";

const BAR_WIDTH = 24;

interface FileProgress {
  readonly file: string;
  readonly done: number;
  readonly size: number;
}

const megabytes = (bytes: number): string => (bytes / 1e6).toFixed(1);

/** `safetape download OWNER/NAME`: downloads a model from the Hugging Face Hub into a directory, and checks its files. */
export async function downloadCommand(repo: string | undefined, raw: RawOptions, print: Print): Promise<void> {
  if (repo === undefined)
    throw new UsageError("No model is named.", "Give it as OWNER/NAME: safetape download OWNER/NAME.");
  const { out = basename(repo), revision, tokenFile, quiet, json } = readOptions(DOWNLOAD, raw);
  const token = await readToken(tokenFile);
  const hubUrl = process.env["HF_ENDPOINT"] || undefined;
  const screen = new Screen(quiet);
  try {
    const download = await downloadModel(repo, out, {
      revision,
      ...(token !== undefined && { token }),
      ...(hubUrl !== undefined && { hubUrl }),
      onProgress: progressOn(screen),
    });
    screen.end();
    const { files, bytes, commit } = download;
    if (json) print(JSON.stringify({ repo, out, ...download }));
    else print(`${out}: ${files.join(", ")}; ${megabytes(bytes)} MB of commit ${commit.slice(0, 12)}`);
  } finally {
    screen.end();
  }
}

/** Shows the progress of the current file: a bar in a terminal, a line for each tenth elsewhere. */
function progressOn(screen: Screen): (progress: FileProgress) => void {
  let lastTenth = "";
  return ({ file, done, size }) => {
    const share = done / Math.max(1, size);
    const line = `${file}  ${megabytes(done)}/${megabytes(size)} MB`;
    screen.show("download", [`${bar(share, BAR_WIDTH)} ${Math.floor(100 * share)} %  ${line}`]);
    const tenth = `${file} ${Math.floor(10 * share)}`;
    if (!screen.isLive && tenth !== lastTenth) screen.say(line);
    lastTenth = tenth;
  };
}
