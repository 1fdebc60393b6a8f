import { join } from "node:path";
import { openDirectory, readRunRecord, saveReport } from "../node/index";
import { REPORT_FILE } from "../report/record";
import { REPORT } from "./flags";
import { readOptions } from "./options";
import type { Print, RawOptions } from "./options";

/** `safetape report DIR`: draws the report of a run again, from the `run.json` in its directory. */
export async function reportCommand(path: string, raw: RawOptions, print: Print): Promise<void> {
  const { reportPng, json } = readOptions(REPORT, raw);
  const directory = await openDirectory(path);
  const files = await saveReport(directory, await readRunRecord(directory), { png: reportPng });
  print(json ? JSON.stringify({ out: path, files }) : join(path, REPORT_FILE));
}
