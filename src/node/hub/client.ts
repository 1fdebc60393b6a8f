import type * as HubClient from "@huggingface/hub";
import { ConfigError, DownloadError } from "../../base/errors";

export type Hub = typeof HubClient;

/** Which server, and as whom. */
export interface HubAccess {
  /** Access token. It is sent to the Hub only, and never appears in an error message. Default: none. */
  readonly token?: string;
  /** Address of another server with the Hub's interface. Default: the Hugging Face Hub. */
  readonly hubUrl?: string;
}

/** The same for the Hub's client. */
export const accessOf = ({ hubUrl, token }: HubAccess): { hubUrl?: string; accessToken?: string } => ({
  ...(hubUrl !== undefined && { hubUrl: hubUrl.replace(/\/+$/, "") }),
  ...(token !== undefined && { accessToken: token }),
});

/** @throws ConfigError for a wrong name or revision, or for a token that is malformed or would be sent unencrypted. */
export function checkRequest(
  repo: string,
  { token, hubUrl, revision = "main" }: HubAccess & { readonly revision?: string },
): void {
  if (!/^[\w-][\w.-]*\/[\w-][\w.-]*$/.test(repo)) {
    throw new ConfigError(`${JSON.stringify(repo.slice(0, 100))} is not the name of a model`, "give it as OWNER/NAME");
  }
  if (!/^[\w-][\w./-]*$/.test(revision) || revision.includes("..")) {
    throw new ConfigError(
      `${JSON.stringify(revision.slice(0, 100))} is not a revision`,
      "give a branch, a tag or a commit",
    );
  }
  if (token !== undefined && !/^hf_\w+$/.test(token)) {
    throw new ConfigError("the token is not one of the Hub's", "tokens begin with hf_ and have no spaces");
  }
  const { protocol, hostname } = hubUrl === undefined ? { protocol: "https:", hostname: "" } : parseUrl(hubUrl);
  if (token === undefined || protocol === "https:" || ["127.0.0.1", "localhost", "[::1]"].includes(hostname)) return;
  throw new ConfigError("the token would be sent without encryption", "use an https address for HF_ENDPOINT");
}

function parseUrl(url: string): URL {
  if (URL.canParse(url) && /^https?:/.test(url)) return new URL(url);
  throw new ConfigError("the address of the Hub is not an http or https address", "check HF_ENDPOINT");
}

/** @throws DownloadError where the package is not installed. */
export async function loadClient(): Promise<Hub> {
  try {
    return await import("@huggingface/hub");
  } catch (cause) {
    throw new DownloadError(
      "the npm package `@huggingface/hub`, the Hub's client, cannot be loaded",
      "run `npm install @huggingface/hub`",
      { cause },
    );
  }
}
