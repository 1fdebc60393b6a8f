import { execFileSync } from "node:child_process";

export interface Driver {
  readonly icd: string;
  readonly env: Record<string, string>;
}

/** Drivers that work here: the one that the user chose, or a GPU's and both software drivers. */
export function drivers(): Driver[] {
  const ask = (...args: string[]): Driver[] => {
    const answer = execFileSync(process.execPath, ["scripts/ensure-vulkan.mjs", "--json", ...args], {
      encoding: "utf8",
    });
    return (JSON.parse(answer) as { drivers: Driver[] }).drivers;
  };
  if (process.env["VK_DRIVER_FILES"]) return ask();
  return [...new Map([...ask(), ...ask("--all")].map((driver) => [driver.icd, driver])).values()];
}
