import { execFileSync, spawn } from "node:child_process";
import { existsSync, mkdirSync, renameSync, statSync, writeFileSync, writeSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { findDrivers } from "../../scripts/vulkan/drivers.mjs";

/** AMD families by the names that RADV knows: RDNA2, RDNA3 and RDNA4. */
export const FAMILIES = { RDNA2: "navi21", RDNA3: "navi31", RDNA4: "gfx1201" } as const;
export type Family = keyof typeof FAMILIES;

const SOURCE = "bench/isa/layer.c";
const FOLDER = join("node_modules", ".cache", "safetape", "isa");
const LAYER = "VK_LAYER_SAFETAPE_compile_only";
const HEADER = "/usr/include/vulkan/vk_layer.h";

/** Why kernels cannot be compiled for AMD's GPUs here, in words; undefined where they can. */
export function missingTool(): string | undefined {
  if (process.platform !== "linux") return "RADV runs on Linux alone";
  if (!radv()) return "Mesa's Vulkan driver for AMD (RADV, Debian's mesa-vulkan-drivers) is not installed";
  if (!existsSync(HEADER)) return "Vulkan's headers (Debian's libvulkan-dev) are not installed";
  if (!compiler()) return "there is no C compiler";
  return undefined;
}

const radv = (): string | undefined => findDrivers().find(({ name }) => name === "amd")?.icd;

function compiler(): string | undefined {
  return ["cc", "gcc", "clang"].find((name) => {
    try {
      return execFileSync(name, ["--version"], { stdio: "pipe" }).length > 0;
    } catch {
      return false;
    }
  });
}

/** Compiles the layer unless that was done since its source changed, and describes it to the Vulkan loader. */
function buildLayer(): void {
  const library = join(FOLDER, "libcompile_only.so");
  if (existsSync(library) && statSync(library).mtimeMs > statSync(SOURCE).mtimeMs) return;
  mkdirSync(FOLDER, { recursive: true });
  const description = {
    file_format_version: "1.0.0",
    layer: {
      name: LAYER,
      type: "GLOBAL",
      library_path: "./libcompile_only.so",
      api_version: "1.3.0",
      implementation_version: "1",
      description: "Compiles pipelines and drops commands",
      functions: {
        vkGetInstanceProcAddr: "compileOnlyInstanceProcAddr",
        vkGetDeviceProcAddr: "compileOnlyDeviceProcAddr",
      },
    },
  };
  writeFileSync(join(FOLDER, "compile_only.json"), JSON.stringify(description));
  // Another process may be loading the last build: the new one takes its place in one step.
  const unfinished = `${library}.${process.pid}`;
  execFileSync(compiler()!, ["-shared", "-fPIC", "-O1", "-Wall", "-fvisibility=hidden", "-o", unfinished, SOURCE]);
  renameSync(unfinished, library);
}

/** Lines around what RADV prints of one pipeline, on stderr. The first goes on with the pipeline's description. */
const BEGIN = "@safetape begin ";
const END = "@safetape end";
/** Begins the last line of a program that compiled all that it meant to; it goes on with the driver's name. */
const DONE = "@safetape done ";
const STDERR = 2;

/** All kernels and peers take minutes on a busy machine of two cores. */
const TIMEOUT_MILLISECONDS = 900_000;

/** Says that a pipeline is compiled next, in a program that `runOnFamily` started; until `endPipeline`, no other one may be. */
export const beginPipeline = (description: string): void => void writeSync(STDERR, `${BEGIN}${description}\n`);
export const endPipeline = (): void => void writeSync(STDERR, `${END}\n`);

/** Ends a program that `runOnFamily` started: the driver would wait for ever for commands that never reached it. */
export function endCompilation(driver: string): void {
  writeSync(STDERR, `${DONE}${driver}\n`);
  process.kill(process.pid, "SIGKILL");
}

/**
 * Runs a bundled program whose Vulkan device is an AMD GPU of this family that compiles and does nothing else.
 * @param onPipeline gets a pipeline's description, as the program printed it between the markers, and RADV's text.
 * @returns the driver's name and version.
 * @throws Error with the program's last lines if it fails.
 */
export function runOnFamily(
  family: Family,
  program: string,
  args: readonly string[],
  onPipeline: (description: string, text: string) => void,
): Promise<string> {
  buildLayer();
  const env = {
    ...process.env,
    VK_DRIVER_FILES: radv(),
    RADV_FORCE_FAMILY: FAMILIES[family],
    RADV_DEBUG: "asm,shaderstats,nocache",
    VK_ADD_LAYER_PATH: FOLDER,
    VK_INSTANCE_LAYERS: LAYER,
    XDG_RUNTIME_DIR: process.env["XDG_RUNTIME_DIR"] ?? tmpdir(),
  };
  const child = spawn(process.execPath, ["--enable-source-maps", program, ...args], {
    env,
    stdio: ["ignore", "inherit", "pipe"],
    timeout: TIMEOUT_MILLISECONDS,
    killSignal: "SIGKILL",
  });
  let text = "";
  return new Promise((resolve, reject) => {
    child.stderr.setEncoding("utf8").on("data", (chunk: string) => {
      text += chunk;
      for (let end = text.indexOf(END); end >= 0; end = text.indexOf(END)) {
        const block = text.slice(text.indexOf(BEGIN) + BEGIN.length, end);
        text = text.slice(end + END.length);
        const line = block.indexOf("\n");
        try {
          onPipeline(block.slice(0, line), block.slice(line + 1));
        } catch (error) {
          child.kill("SIGKILL");
          reject(error instanceof Error ? error : new Error(String(error)));
        }
      }
    });
    child.on("error", reject).on("close", () => {
      const done = text.lastIndexOf(DONE);
      if (done >= 0) resolve(text.slice(done + DONE.length).trim());
      else reject(new Error(`${program} failed for ${family}:\n${text.split("\n").slice(-20).join("\n")}`));
    });
  });
}
