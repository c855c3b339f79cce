"""``ocrslim completion``: scripts that complete commands, options and their values, made of the parser itself.

No program runs when the user presses the key: all words are in the script, which is made again when ocrslim changes
(``eval "$(ocrslim completion bash)"`` in the shell's start file does that).
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass

from ocrslim.errors import InputError

__all__ = ["completion_script"]


@dataclass(frozen=True)
class _Option:
    """An option: its spellings, its values (``None`` where it takes a file or text, empty without any), its help."""

    names: tuple[str, ...]
    values: tuple[str, ...] | None
    help: str


@dataclass(frozen=True)
class _Command:
    """A subcommand: its options, and the words that can stand without one."""

    name: str
    help: str
    options: tuple[_Option, ...]
    words: tuple[str, ...]


def completion_script(parser: argparse.ArgumentParser, shell: str) -> str:
    """Return a script for a shell.

    Args:
        parser: with subcommands.
        shell: ``bash``, ``zsh`` or ``fish``.

    Raises:
        InputError: another shell.
    """
    commands = tuple(_commands(parser))
    if shell == "fish":
        return _fish(parser.prog, commands)
    if shell == "bash":
        return _bash(parser.prog, commands)
    if shell == "zsh":  # zsh runs scripts of bash when it is told to
        return f"autoload -U +X bashcompinit && bashcompinit\n{_bash(parser.prog, commands)}"
    raise InputError(f"completion {shell}: there is none; take bash, zsh or fish")


def _commands(parser: argparse.ArgumentParser) -> Iterator[_Command]:
    for action in parser._actions:
        if not isinstance(action, argparse._SubParsersAction):
            continue
        helps = {choice.dest: choice.help or "" for choice in action._choices_actions}
        for name, sub in action.choices.items():
            options: list[_Option] = []
            words: list[str] = []
            for item in sub._actions:
                values = tuple(map(str, item.choices or ()))
                if item.option_strings:
                    free = None if item.nargs != 0 and not values else values
                    options.append(_Option(tuple(item.option_strings), free, (item.help or "").split(";")[0]))
                else:
                    words += values
            yield _Command(name, helps.get(name, ""), tuple(options), tuple(words))


def _bash(prog: str, commands: tuple[_Command, ...]) -> str:
    """Complete values after an option that has some, options after a dash, else a command's words and files."""
    function = f"_{prog}"
    lines = [
        f"{function}() {{",
        '  local current="${COMP_WORDS[COMP_CWORD]}" previous="${COMP_WORDS[COMP_CWORD-1]}" values="" options=""',
        "  COMPREPLY=()",
        '  if [ "$COMP_CWORD" -eq 1 ]; then',
        f'    COMPREPLY=($(compgen -W "{" ".join(command.name for command in commands)} --help --version"'
        ' -- "$current"))',
        "    return",
        "  fi",
        '  case "${COMP_WORDS[1]}" in',
    ]
    for command in commands:
        names = " ".join(name for option in command.options for name in option.names)
        lines += [f"    {command.name})", f'      options="{names}" values="{" ".join(command.words)}"']
        lines.append('      case "$previous" in')
        for option in command.options:
            if option.values:
                lines.append(f'        {"|".join(option.names)}) options="" values="{" ".join(option.values)}" ;;')
            elif option.values is None:
                lines.append(f'        {"|".join(option.names)}) options="" values="" ;;')
        lines += ["      esac", "      ;;"]
    return (
        "\n".join(
            [
                *lines,
                "  esac",
                '  if [[ "$current" == -* ]]; then values="$options"; fi',
                '  if [ -n "$values" ]; then COMPREPLY=($(compgen -W "$values" -- "$current"))',
                '  else COMPREPLY=(); while IFS= read -r word; do COMPREPLY+=("$word")',
                '    done < <(compgen -f -- "$current"); fi',
                "}",
                f"complete -o filenames -F {function} {prog}",
            ]
        )
        + "\n"
    )


def _fish(prog: str, commands: tuple[_Command, ...]) -> str:
    lines = [f"complete -c {prog} -e"]
    for command in commands:
        lines.append(f"complete -c {prog} -f -n __fish_use_subcommand -a {command.name} -d {_quoted(command.help)}")
        inside = f"-n '__fish_seen_subcommand_from {command.name}'"
        if command.words:
            lines.append(f"complete -c {prog} -f {inside} -a {_quoted(' '.join(command.words))}")
        for option in command.options:
            names = " ".join(f"-l {name[2:]}" if name.startswith("--") else f"-s {name[1:]}" for name in option.names)
            if option.values is None:
                takes = " -r"
            else:
                takes = f" -x -a {_quoted(' '.join(option.values))}" if option.values else ""
            lines.append(f"complete -c {prog} {inside} {names}{takes} -d {_quoted(option.help)}")
    return "\n".join(lines) + "\n"


def _quoted(text: str) -> str:
    """Return a word for fish: in single quotes only the quote and the backslash mean something."""
    plain = text.replace("%(default)s", "see --help").replace("%%", "%")
    escaped = plain.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"
