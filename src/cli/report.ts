import { join } from "node:path";
import { openDirectory } from "../node/directory";
import { saveReport } from "../node/report";
import { readRunRecord } from "../report/record";
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
