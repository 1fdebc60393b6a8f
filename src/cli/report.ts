import { join } from "node:path";
import { openDirectory, readRunRecord, saveReport } from "../node/index";
import { REPORT_FILE } from "../report/record";
import type { Given } from "./options";

/** `safetape report DIR`: draws a run's report again, from the record that lies there. */
export async function reportCommand(path: string, given: Given, print: (line: string) => void): Promise<void> {
  const directory = await openDirectory(path);
  const files = await saveReport(directory, await readRunRecord(directory), { png: given["reportPng"] === true });
  print(given["json"] ? JSON.stringify({ out: path, files }) : join(path, REPORT_FILE));
}
