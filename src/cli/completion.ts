import type { Command } from "./commands";
import { flagOf, negated, UsageError } from "./options";
import type { Option, Print, Takes } from "./options";

/** What makes the script of a shell. */
type Script = (commands: readonly Command[]) => string;

/** `safetape completion SHELL`: prints a script that completes commands, options and their values in a shell. */
export function completionCommand(shell: string | undefined, commands: readonly Command[], print: Print): void {
  const script = shell !== undefined && Object.hasOwn(SCRIPTS, shell) ? SCRIPTS[shell] : undefined;
  if (!script) {
    throw new UsageError(
      shell === undefined ? "No shell is named." : `There is no completion for ${shell}.`,
      `Shells: ${Object.keys(SCRIPTS).join(", ")}.`,
    );
  }
  print(script(commands).trimEnd());
}

const isToggle = ({ takes }: Option<unknown>): boolean => takes.kind === "toggle";

/** A text in quotes of a POSIX shell. */
const quoted = (text: string): string => `'${text.replaceAll("'", `'\\''`)}'`;

const wordsOf = ({ words = [] }: Takes): string => words.join(" ");

function bash(commands: readonly Command[]): string {
  const values = commands.flatMap(({ name, options }) =>
    Object.values(options).flatMap((option) =>
      isToggle(option) ? [] : [`    ${quoted(`${name} ${flagOf(option)}`)}) ${bashValues(option.takes)}; return ;;`],
    ),
  );
  const flags = commands.map(
    ({ name, options }) => `    ${name}) words=${quoted(Object.values(options).map(flagOf).join(" "))} ;;`,
  );
  const takenBack = `    words="\${words//--/--no-}"`;
  const args = commands.flatMap(({ name, takes }) =>
    takes.words || takes.path ? [`    ${name}) ${bashValues(takes)} ;;`] : [],
  );
  return `# Completion of safetape for bash.
_safetape() {
  local word=\${COMP_WORDS[COMP_CWORD]} before=\${COMP_WORDS[COMP_CWORD - 1]} command=\${COMP_WORDS[1]} words
  COMPREPLY=()
  if ((COMP_CWORD == 1)); then
    _safetape_words ${quoted(commands.map(({ name }) => name).join(" "))}
    return
  fi
  case "$command $before" in
${values.join("\n")}
  esac
  if [[ $word == -* ]]; then
    case $command in
${flags.join("\n")}
    esac
    if [[ $word == --no-* ]]; then
${takenBack}
    fi
    _safetape_words "$words --help"
    return
  fi
  case $command in
${args.join("\n")}
  esac
}
_safetape_words() {
  local IFS=$' \\n'
  COMPREPLY+=($(compgen -W "$1" -- "$word"))
}
# Spaces in the names of files are escaped by what follows.
_safetape_paths() {
  local IFS=$'\\n'
  compopt -o filenames 2>/dev/null
  COMPREPLY+=($(compgen "$1" -- "$word"))
}
complete -F _safetape safetape
`;
}

/** Commands that complete a value; nothing is known of texts and numbers. */
function bashValues(takes: Takes): string {
  const words = takes.words ? [`_safetape_words ${quoted(wordsOf(takes))}`] : [];
  const paths = takes.path ? [`_safetape_paths ${takes.path === "directory" ? "-d" : "-f"}`] : [];
  return [...words, ...paths].join("; ") || ":";
}

function zsh(commands: readonly Command[]): string {
  const described = commands.map(({ name, help }) => `      ${quoted(`${name}:${help}`)}`);
  const cases = commands.map(({ name, options, takes }) => {
    const specs = Object.values(options).map((option) => {
      const flag = `${option.takes.several === "repeated" ? "*" : ""}${flagOf(option)}`;
      const value = isToggle(option) ? "" : `:${placeholder(option)}:${zshValues(option.takes)}`;
      return quoted(`${flag}[${option.help.replace(/[[\]\\]/g, "\\$&")}]${value}`);
    });
    const ofArgs = takes.words || takes.path ? [quoted(`*:argument:${zshValues(takes)}`)] : [];
    const takenBack = Object.values(options).map((option) =>
      quoted(`${negated(flagOf(option))}[Without ${flagOf(option)}]`),
    );
    return `    ${name})
      [[ $PREFIX == --no-* ]] && taken_back=(${takenBack.join(" ")})
      _arguments $taken_back ${[...specs, ...ofArgs].join(" \\\n      ")} ;;`;
  });
  return `#compdef safetape
# Completion of safetape for zsh.
_safetape() {
  local -a commands taken_back
  if ((CURRENT == 2)); then
    commands=(
${described.join("\n")}
    )
    _describe command commands
    return
  fi
  shift words
  ((CURRENT--))
  case $words[1] in
${cases.join("\n")}
  esac
}
compdef _safetape safetape
`;
}

/** The placeholder of an option's value, without characters that have a meaning for _arguments. */
const placeholder = ({ usage }: Option<unknown>): string => (/<(.+)>/.exec(usage)?.[1] ?? "value").replaceAll(":", "");

function zshValues({ words, path }: Takes): string {
  const files = path === "directory" ? "_files -/" : "_files";
  if (!words) return path ? files : " ";
  const list = `(${words.join(" ")})`;
  return path ? `{compadd ${words.join(" ")}; ${files}}` : list;
}

function fish(commands: readonly Command[]): string {
  const lines = commands.flatMap(({ name, help, options, takes }) => {
    const within = `complete -c safetape -n ${quoted(`__fish_seen_subcommand_from ${name}`)}`;
    return [
      `complete -c safetape -n __fish_use_subcommand -a ${name} -d ${fishText(help)}`,
      ...Object.values(options).map((option) => {
        const value = isToggle(option) ? "" : ` -r${fishValues(option.takes)}`;
        return `${within} -l ${flagOf(option).slice(2)}${value} -d ${fishText(option.help)}`;
      }),
      `complete -c safetape -n ${quoted(`__fish_seen_subcommand_from ${name}; and string match -q -- '--no-*' (commandline -ct)`)} -a ${fishText(
        Object.values(options)
          .map((option) => negated(flagOf(option)))
          .join(" "),
      )}`,
      ...(takes.words || takes.path ? [`${within}${fishValues(takes)}`] : []),
    ];
  });
  return `# Completion of safetape for fish.
complete -c safetape -f
${lines.join("\n")}
`;
}

/** A text in fish's single quotes, within which only quotes and backslashes are escaped. */
const fishText = (text: string): string => `'${text.replace(/['\\]/g, "\\$&")}'`;

function fishValues(takes: Takes): string {
  const words = takes.words ? ` -a ${fishText(wordsOf(takes))}` : "";
  if (takes.path === "directory") return `${words} -f -a '(__fish_complete_directories)'`;
  return takes.path === "file" ? `${words} -F` : `${words} -f`;
}

const SCRIPTS: Readonly<Record<string, Script>> = { bash, zsh, fish };

/** Shells with a script. */
export const SHELLS: readonly string[] = Object.keys(SCRIPTS);
