import { execFileSync } from "node:child_process";

export interface Driver {
  readonly icd: string;
  readonly env: Record<string, string>;
}

/** Vulkan drivers that work on this machine: the one in VK_DRIVER_FILES, or else a GPU's and both software drivers. */
export function drivers(): Driver[] {
  const findDrivers = (...args: string[]): Driver[] => {
    const output = execFileSync(process.execPath, ["scripts/ensure-vulkan.mjs", "--json", ...args], {
      encoding: "utf8",
    });
    // The script's --json output.
    return (JSON.parse(output) as { drivers: Driver[] }).drivers;
  };
  if (process.env["VK_DRIVER_FILES"]) return findDrivers();
  return [...new Map([...findDrivers(), ...findDrivers("--all")].map((driver) => [driver.icd, driver])).values()];
}
