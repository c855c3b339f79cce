"""Completion as the shells do it: bash runs its script here; zsh and fish where the machine has them."""

from __future__ import annotations

import argparse
import shutil
import subprocess
from pathlib import Path

import pytest

from ocrslim.arguments import SHELLS, build_parser
from ocrslim.cli import RUN, main
from ocrslim.completion import completion_script
from ocrslim.errors import InputError

needs_bash = pytest.mark.skipif(shutil.which("bash") is None, reason="no bash here")


def complete(words: list[str], folder: Path, parser: argparse.ArgumentParser | None = None) -> list[str]:
    """Return what bash offers for the last of ``words``."""
    script = completion_script(parser or build_parser(), "bash")
    quoted = " ".join(f"'{word}'" for word in words)
    program = (
        f'{script}\nCOMP_WORDS=({quoted}); COMP_CWORD={len(words) - 1}; _ocrslim; printf "%s\\n" "${{COMPREPLY[@]}}"'
    )
    done = subprocess.run(["bash", "-c", program], capture_output=True, text=True, check=True, cwd=folder)
    assert not done.stderr
    return [line for line in done.stdout.splitlines() if line]


@needs_bash
def test_commands(tmp_path: Path) -> None:
    assert set(complete(["ocrslim", ""], tmp_path)) == {*RUN, "--help", "--version"}
    assert complete(["ocrslim", "comp"], tmp_path) == ["compress", "completion"]


@needs_bash
def test_options_and_their_values(tmp_path: Path) -> None:
    assert complete(["ocrslim", "compress", "--targ"], tmp_path) == ["--target"]
    assert complete(["ocrslim", "compress", "m", "--target", "open"], tmp_path) == ["openvino"]
    assert complete(["ocrslim", "export", "d", "--to", "p"], tmp_path) == ["paddle", "paddle-lite", "paddleocr"]
    assert complete(["ocrslim", "completion", ""], tmp_path) == list(SHELLS)
    assert complete(["ocrslim", "models", "p"], tmp_path) == ["pull", "path"]
    assert complete(["ocrslim", "models", "list", "--to"], tmp_path) == []


@needs_bash
def test_files_where_a_file_is_meant(tmp_path: Path) -> None:
    (tmp_path / "model one.onnx").write_text("", encoding="utf-8")
    (tmp_path / "other.txt").write_text("", encoding="utf-8")
    assert complete(["ocrslim", "inspect", "oth"], tmp_path) == ["other.txt"]
    assert complete(["ocrslim", "eval", "m", "--data", "oth"], tmp_path) == ["other.txt"]
    assert complete(["ocrslim", "nonsense", "oth"], tmp_path) == ["other.txt"]
    assert complete(["ocrslim", "inspect", "mod"], tmp_path) == ["model one.onnx"]


@needs_bash
def test_every_option_of_every_command(tmp_path: Path) -> None:
    actions = next(item for item in build_parser()._actions if isinstance(item, argparse._SubParsersAction))
    for name, sub in actions.choices.items():
        names = {option for action in sub._actions for option in action.option_strings}
        assert set(complete(["ocrslim", name, "-"], tmp_path)) == names, name


@pytest.mark.parametrize("shell", SHELLS)
def test_the_command_prints_a_script_that_its_shell_reads(
    shell: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert main(["completion", shell]) == 0
    script = capsys.readouterr().out
    assert script == completion_script(build_parser(), shell)
    if shutil.which(shell) is None:
        pytest.skip(f"no {shell} here to read it")
    path = tmp_path / "script"
    path.write_text(script, encoding="utf-8")
    subprocess.run([shell, "-n", str(path)], check=True)


def test_zsh_reads_the_script_of_bash() -> None:
    first, rest = completion_script(build_parser(), "zsh").split("\n", 1)
    assert first == "autoload -U +X bashcompinit && bashcompinit"
    assert rest == completion_script(build_parser(), "bash")


def test_fish_knows_commands_options_values_and_help() -> None:
    lines = completion_script(build_parser(), "fish").splitlines()
    assert lines[0] == "complete -c ocrslim -e"
    for name in RUN:
        assert any(f"__fish_use_subcommand -a {name} -d '" in line for line in lines)
    export = [line for line in lines if "__fish_seen_subcommand_from export'" in line]
    assert any("-l valid-targets -x -a 'arm x86'" in line for line in export)
    assert any("-l float -d" in line for line in export)
    assert any("-l out -r -d" in line for line in export)
    assert any("-s h -l help" in line for line in export)


def test_quotes_in_help_do_not_end_the_word() -> None:
    parser = argparse.ArgumentParser(prog="ocrslim")
    commands = parser.add_subparsers()
    commands.add_parser("a", help="the model's 100 %% \\ of it").add_argument("--b", help="default: %(default)s")
    script = completion_script(parser, "fish")
    assert "-a a -d 'the model\\'s 100 % \\\\ of it'" in script
    assert "-l b -r -d 'default: see --help'" in script


def test_another_shell_is_told_of() -> None:
    with pytest.raises(InputError, match="completion tcsh: there is none; take bash, zsh or fish"):
        completion_script(build_parser(), "tcsh")
