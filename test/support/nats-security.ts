import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { nkeys } from "@nats-io/nats-core";

/** Why no certificate can be made on this machine; undefined where one can. */
export const whyNoCertificate = (): string | undefined =>
  spawnSync("openssl", ["version"], { stdio: "ignore" }).status === 0 ? undefined : "there is no openssl";

/** Makes a certificate for 127.0.0.1 in a folder, and returns its text with lines of nats-server's configuration. */
export function certificateIn(folder: string): { readonly ca: string; readonly config: string } {
  const [key, certificate] = [join(folder, "key.pem"), join(folder, "certificate.pem")];
  const request = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=localhost";
  const args = [...request.split(" "), "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", certificate];
  const { status, stderr } = spawnSync("openssl", args, { encoding: "utf8" });
  if (status !== 0) throw new Error(stderr);
  const config = `tls { cert_file: ${JSON.stringify(certificate)}, key_file: ${JSON.stringify(key)} }`;
  return { ca: readFileSync(certificate, "utf8"), config };
}

const encoded = (value: object): string => Buffer.from(JSON.stringify(value)).toString("base64url");

/** A JSON web token in NATS' form. @param issuer who signs it. */
function token(issuer: nkeys.KeyPair, subject: nkeys.KeyPair, name: string, nats: object): string {
  const claims = {
    jti: name,
    iat: Math.floor(Date.now() / 1000),
    iss: issuer.getPublicKey(),
    sub: subject.getPublicKey(),
    name,
    nats: { ...nats, version: 2 },
  };
  const signed = `${encoded({ typ: "JWT", alg: "ed25519-nkey" })}.${encoded(claims)}`;
  return `${signed}.${Buffer.from(issuer.sign(Buffer.from(signed))).toString("base64url")}`;
}

/** Makes an operator with an account and a user of it: the user's credentials file, and lines of nats-server's configuration. */
export function credentials(): { readonly file: string; readonly config: string } {
  const [operator, system, account, user] = [
    nkeys.createOperator(),
    nkeys.createAccount(),
    nkeys.createAccount(),
    nkeys.createUser(),
  ];
  const limits = { subs: -1, data: -1, payload: -1, imports: -1, exports: -1, wildcards: true, conn: -1, leaf: -1 };
  const storage = { mem_storage: -1, disk_storage: -1, streams: -1, consumer: -1 };
  const accounts = {
    [system.getPublicKey()]: token(operator, system, "system", { type: "account", limits }),
    [account.getPublicKey()]: token(operator, account, "account", {
      type: "account",
      limits: { ...limits, ...storage },
    }),
  };
  const ofOperator = token(operator, operator, "operator", { type: "operator", system_account: system.getPublicKey() });
  const ofUser = token(account, user, "user", { type: "user", pub: {}, sub: {}, subs: -1, data: -1, payload: -1 });
  const seed = new TextDecoder().decode(user.getSeed());
  return {
    file: [
      `-----BEGIN NATS USER JWT-----\n${ofUser}\n------END NATS USER JWT------\n`,
      `-----BEGIN USER NKEY SEED-----\n${seed}\n------END USER NKEY SEED------\n`,
    ].join("\n"),
    config: `operator: ${ofOperator}\nresolver: MEMORY\nresolver_preload: ${JSON.stringify(accounts)}`,
  };
}
