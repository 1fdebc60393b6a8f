import { readFile } from "node:fs/promises";
import { homedir } from "node:os";
import { join } from "node:path";
import { UsageError } from "./options";

/** The token in a file or the environment. On the command line, other users of the machine could read it. */
export async function readToken(path: string | undefined): Promise<string | undefined> {
  if (path === undefined) return process.env["HF_TOKEN"] || undefined;
  const content = await readFile(path, "utf8").catch(() => {
    throw new UsageError(`The file ${path} cannot be read.`, "Give a file that contains only the token.");
  });
  if (content.trim() !== "") return content.trim();
  throw new UsageError(`The file ${path} is empty.`, "Give a file that contains only the token.");
}

/** Environment variables by name. */
type Environment = Readonly<Record<string, string | undefined>>;

/** The token that Hugging Face's own programs would send: of HF_TOKEN, or of the file in which `hf auth login` saves one. */
export async function loginToken(path: string | undefined, environment: Environment): Promise<string | undefined> {
  const { HF_TOKEN_PATH, HF_HOME, XDG_CACHE_HOME = join(homedir(), ".cache") } = environment;
  const saved = HF_TOKEN_PATH ?? join(HF_HOME ?? join(XDG_CACHE_HOME, "huggingface"), "token");
  return (await readToken(path)) ?? ((await readFile(saved, "utf8").catch(() => "")).trim() || undefined);
}
