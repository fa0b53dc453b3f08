"""The command `completion`: scripts that complete commands, options, choices and files.

Each script contains all words that it completes, so that pressing Tab does not start Python.
"""

import dataclasses
from collections.abc import Mapping

from reelbank.data.command_line.options import CompletionOptions
from reelbank.data.command_line.table import COMMANDS
from reelbank.data.console import print_lines
from reelbank.data.options import is_switch


@dataclasses.dataclass(frozen=True)
class _Option:
    """An option for completion: its name, its help text, and the values that it accepts. Without
    values, the shell completes files."""

    name: str
    about: str
    values: tuple[str, ...]
    takes_value: bool
    is_positional: bool

    @property
    def dashed(self) -> str:
        return "--" + self.name.replace("_", "-")

    @property
    def assigned(self) -> str:
        """The form `NAME=`, as for make."""
        return f"{self.name.upper()}="


def completion(options: CompletionOptions) -> int:
    """Print the script for a shell; returns the exit code."""
    script = {"bash": _bash, "zsh": _zsh, "fish": _fish}[options.shell]
    commands = {name: _options_of(command.load_options()) for name, command in COMMANDS.items()}
    print_lines(*script(commands).split("\n"))
    return 0


def _options_of(options: type) -> list[_Option]:
    completed = []
    for field in dataclasses.fields(options):
        switch = is_switch(options, field.name)
        values = ("1", "0") if switch else tuple(map(str, field.metadata["choices"]))
        completed.append(
            _Option(
                name=field.name,
                about=field.metadata["help"],
                values=values,
                takes_value=not switch,
                is_positional=field.metadata["positional"],
            )
        )
    return completed


def _bash(commands: Mapping[str, list[_Option]]) -> str:
    options, values = [], []
    for command, command_options in commands.items():
        names = " ".join(f"{option.dashed} {option.assigned}" for option in command_options)
        names += "".join(
            f" {' '.join(option.values)}" for option in command_options if option.is_positional
        )
        options.append(f"    {command}) words='{names} --help' ;;")
        values += [
            f"    {command}:{option.name}) words='{' '.join(option.values)}' ;;"
            for option in command_options
            if option.values
        ]
    takes_none = set()
    for command_options in commands.values():
        takes_none |= {option.dashed for option in command_options if not option.takes_value}
    return _BASH.format(
        commands=" ".join(commands),
        options="\n".join(options),
        values="\n".join(values),
        switches="|".join(sorted(takes_none)),
    )


# bash splits NAME=value and --name=value at the equals sign, which is one of COMP_WORDBREAKS.
_BASH = """\
# Completion of reelbank for bash. In ~/.bashrc: eval "$(reelbank completion bash)"
_reelbank_options() {{
  case $1 in
{options}
    *) words='' ;;
  esac
}}
_reelbank_values() {{
  case $1 in
{values}
    *) words='' ;;
  esac
}}
_reelbank() {{
  local current=${{COMP_WORDS[COMP_CWORD]}} before='' command=${{COMP_WORDS[1]}} words='' name=''
  COMPREPLY=()
  if [ "$COMP_CWORD" -le 1 ]; then
    COMPREPLY=($(compgen -W '{commands} --help --version' -- "$current"))
    return
  fi
  before=${{COMP_WORDS[COMP_CWORD-1]}}
  if [ "$current" = '=' ]; then
    name=$before current=''
  elif [ "$before" = '=' ]; then
    name=${{COMP_WORDS[COMP_CWORD-2]}}
  else
    case $before in
      {switches}) ;;
      --?*) name=$before ;;
    esac
  fi
  if [ -n "$name" ]; then
    name=${{name#--}}
    name=$(printf '%s' "$name" | tr 'A-Z-' 'a-z_')
    _reelbank_values "$command:$name"
    if [ -n "$words" ]; then
      COMPREPLY=($(compgen -W "$words" -- "$current"))
    else
      compopt -o filenames 2> /dev/null
      COMPREPLY=($(compgen -f -- "$current"))
    fi
    return
  fi
  _reelbank_options "$command"
  COMPREPLY=($(compgen -W "$words" -- "$current"))
  case ${{COMPREPLY[0]}} in
    *=) compopt -o nospace 2> /dev/null ;;
    '') compopt -o filenames 2> /dev/null; COMPREPLY=($(compgen -f -- "$current")) ;;
  esac
}}
complete -F _reelbank reelbank"""


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"


def _zsh(commands: Mapping[str, list[_Option]]) -> str:
    cases = []
    for command, command_options in commands.items():
        lines = [f"    ({command})"]
        for option in command_options:
            about = option.about.replace("[", "(").replace("]", ")").replace(":", "\\:")
            value = f"({' '.join(option.values)})" if option.values else "_files"
            dashed = f"{option.dashed}[{about}]"
            dashed += f":{option.name}:{value}" if option.takes_value else ""
            lines.append(f"      dashed+=({_quoted(dashed)})")
            lines.append(f"      assigned+=({_quoted(f'{option.assigned[:-1]}:{about}:{value}')})")
        cases += [*lines, "      ;;"]
    listed = " ".join(_quoted(f"{name}:{COMMANDS[name].about}") for name in commands)
    return _ZSH.format(commands=listed, cases="\n".join(cases))


_ZSH = """\
#compdef reelbank
# Completion of reelbank for zsh. In ~/.zshrc, after compinit: eval "$(reelbank completion zsh)"
_reelbank() {{
  local -a commands dashed assigned
  commands=({commands})
  if (( CURRENT == 2 )); then
    _describe command commands
    return
  fi
  case $words[2] in
{cases}
  esac
  shift words
  (( CURRENT-- ))
  if [[ $PREFIX == [A-Z]* ]]; then
    _values -S = option $assigned
  else
    _arguments $dashed '*:file:_files'
  fi
}}
compdef _reelbank reelbank"""


def _fish(commands: Mapping[str, list[_Option]]) -> str:
    lines = ["# Completion of reelbank for fish. In config.fish: reelbank completion fish | source"]
    lines.append("complete -c reelbank -n __fish_use_subcommand -f")
    for command, command_options in commands.items():
        about = _quoted(COMMANDS[command].about)
        lines.append(f"complete -c reelbank -n __fish_use_subcommand -a {command} -d {about}")
        condition = f"-n '__fish_seen_subcommand_from {command}'"
        for option in command_options:
            start, text = f"complete -c reelbank {condition}", _quoted(option.about)
            values = f"-x -a '{' '.join(option.values)}'" if option.values else "-r"
            lines.append(
                f"{start} -l {option.dashed[2:]} {values if option.takes_value else ''} -d {text}"
            )
            assigned = (
                " ".join(f"{option.assigned}{value}" for value in option.values) or option.assigned
            )
            words = f" {' '.join(option.values)}" if option.is_positional and option.values else ""
            lines.append(f"{start} -a '{assigned}{words}' -d {text}")
    return "\n".join(lines)
