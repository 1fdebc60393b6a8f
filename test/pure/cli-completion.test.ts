import { execFileSync, spawnSync } from "node:child_process";
import { mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { beforeEach, describe, expect, it } from "vitest";
import { ADAPTER_KINDS } from "safetape/analysis";
import { COMMANDS } from "../../src/cli/commands";
import { completionCommand, SHELLS } from "../../src/cli/completion";
import { failure } from "../support/failure";
import { useFolder } from "../support/folder";

const path = useFolder();

/** Whether a shell is installed, or why its tests are left out. */
const has = (shell: string): boolean => spawnSync(shell, ["-c", "true"]).status === 0;
const named = (shell: string): string => (has(shell) ? shell : `${shell} (skipped: it is not installed)`);

function scriptFor(shell: string): string {
  let script = "";
  completionCommand(shell, COMMANDS, (text) => void (script = text));
  return script;
}

beforeEach(() => {
  for (const shell of SHELLS) writeFileSync(path(`safetape.${shell}`), scriptFor(shell));
  mkdirSync(path("models of mine"));
  mkdirSync(path("models"));
  writeFileSync(path("models.txt"), "");
});

/** What a shell offers in a folder for a line that ends with the cursor. */
type Offers = (line: string) => string[];

const lines = (output: string): string[] => output.split("\n").filter((word) => word !== "");

const OFFERS: Readonly<Record<string, Offers>> = {
  bash(line) {
    const words = line.split(" ").map((word) => `'${word}'`);
    const ask = `source safetape.bash; complete -p safetape >/dev/null || exit 1
      COMP_WORDS=(${words.join(" ")}); COMP_CWORD=${words.length - 1}; _safetape; printf '%s\\n' "\${COMPREPLY[@]}"`;
    return lines(execFileSync("bash", ["-c", ask], { cwd: path(), encoding: "utf8" }));
  },
  // In a terminal of zsh's own, one key inserts everything that is offered, and another writes the line into a file.
  zsh(line) {
    const ask = `
      zmodload zsh/zpty
      zpty shell zsh -f -i
      zpty -w shell 'PS1=; unsetopt beep; autoload -Uz compinit; compinit -u -D; source ./safetape.zsh; exec 3>line
        every() { _main_complete; compstate[insert]=all; compstate[list]= }; zle -C every complete-word every
        show() { print -r -- "$BUFFER" >&3; exit }; zle -N show; bindkey "^A" every; bindkey "^X" show; print READ""Y'
      zpty -r -m shell output '*READY*'
      zpty -n -w shell "$1"$'\\x01'$'\\x18'
      for i in {1..100}; do [[ -s line ]] && break; sleep 0.1; done`;
    rmSync(path("line"), { force: true });
    execFileSync("zsh", ["-f", "-c", ask, "zsh", line], { cwd: path() });
    const offered = readFileSync(path("line"), "utf8").slice(line.lastIndexOf(" ") + 1);
    return offered
      .trim()
      .split(/(?<!\\) /)
      .map((word) => word.replaceAll("\\", ""));
  },
  fish(line) {
    const ask = "source safetape.fish; complete -C $argv[1]";
    const output = execFileSync("fish", ["--no-config", "-c", ask, line], { cwd: path(), encoding: "utf8" });
    return lines(output).map((offer) => offer.split("\t")[0]!);
  },
};

describe.each(SHELLS)("completion in %s", (shell) => {
  const offers = OFFERS[shell]!;
  it.runIf(has(shell))(`${named(shell)} completes commands, options, words, files and directories`, () => {
    expect(offers("safetape ge")).toEqual(["generate"]);
    expect(offers("safetape train --lr").sort()).toEqual(["--lr", "--lr-search"]);
    expect(offers("safetape train --no-lr").sort()).toEqual(["--no-lr", "--no-lr-search"]);
    expect(offers("safetape plan --adapter ").sort()).toEqual([...ADAPTER_KINDS].sort());
    expect(offers("safetape plan --optimizer ada").sort()).toEqual(["adafactor", "adam", "adamw"]);
    const folders = offers("safetape train --model models").map((name) => name.replace(/\/$/, ""));
    expect(folders.sort()).toEqual(["models", "models of mine"]);
    expect(offers("safetape train --data models.")).toEqual(["models.txt"]);
    expect(offers("safetape analyze sim")).toEqual(["similarity"]);
    expect(offers("safetape study models.t")).toEqual(["models.txt"]);
  });
});

it("bash offers every command, and every option of each", () => {
  expect(OFFERS["bash"]!("safetape ")).toEqual(COMMANDS.map(({ name }) => name));
  for (const { name, options } of COMMANDS) {
    const flags = Object.values(options).map(({ usage }) => usage.split(" ")[0]);
    expect(OFFERS["bash"]!(`safetape ${name} --`)).toEqual([...flags, "--help"]);
    expect(OFFERS["bash"]!(`safetape ${name} --no-`)).toEqual(flags.map((flag) => flag!.replace("--", "--no-")));
  }
});

it("there is none for other shells", async () => {
  const fact = "There is no completion for csh.\nShells: bash, zsh, fish.";
  expect((await failure(() => completionCommand("csh", COMMANDS, () => undefined))).message).toBe(fact);
});
