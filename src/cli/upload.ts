import { uploadModel } from "../node/upload";
import { UPLOAD } from "./flags";
import { loginToken } from "./hub-token";
import { readOptions, UsageError } from "./options";
import type { Print, RawOptions } from "./options";
import { Screen } from "./view/screen";

/** `safetape upload DIR OWNER/NAME`: uploads an adapter or a model to the Hugging Face Hub in one commit. */
export async function uploadCommand(what: readonly string[], raw: RawOptions, print: Print): Promise<void> {
  const [path, repo, ...more] = what;
  if (path === undefined || repo === undefined || more.length > 0) {
    throw new UsageError(
      `upload takes a directory and a name, and has ${what.length} arguments.`,
      "Give both: safetape upload DIR OWNER/NAME.",
    );
  }
  const { create, private: isPrivate, branch, message, tokenFile, quiet, json } = readOptions(UPLOAD, raw);
  if (isPrivate && !create) {
    throw new UsageError("--private belongs to --create.", "Add --create, or change a repository on its page.");
  }
  const token = await loginToken(tokenFile, process.env);
  const hubUrl = process.env["HF_ENDPOINT"] || undefined;
  const screen = new Screen(quiet);
  try {
    const upload = await uploadModel(path, repo, {
      branch,
      create,
      private: isPrivate,
      ...(message !== undefined && { message }),
      ...(token !== undefined && { token }),
      ...(hubUrl !== undefined && { hubUrl }),
      warn: (warning) => void process.stderr.write(`${warning}\n`),
      onProgress: ({ file, share, what: state }) =>
        screen.show("upload", [`${state} ${file}  ${Math.floor(100 * share)} %`]),
    });
    screen.end();
    const { commit, files, left } = upload;
    if (left.length > 0) process.stderr.write(`not uploaded: ${left.join(", ")}\n`);
    if (json) print(JSON.stringify({ repo, branch, ...upload }));
    else print(`${repo}: ${files.join(", ")}; commit ${commit.slice(0, 12)} of ${branch}`);
  } finally {
    screen.end();
  }
}
