"""What a run says of itself."""

from __future__ import annotations

import shlex
import sys

import pytest

from ocrslim.outcome import command


@pytest.mark.parametrize(
    "program", ["/usr/bin/ocrslim", "C:/Scripts/ocrslim.exe", "ocrslim", "/site-packages/ocrslim/__main__.py"]
)
def test_the_command_is_recorded_as_a_shell_takes_it(program: str, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = ["compress", "a model", "--out", "it's here"]
    monkeypatch.setattr(sys, "argv", [program, *arguments])
    told = command()
    assert told is not None
    assert shlex.split(told) == ["ocrslim", *arguments]


@pytest.mark.parametrize("program", ["", "-c", "/usr/bin/pytest", "notebook.py", "/other/__main__.py"])
def test_another_program_has_no_command_of_ours(program: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", [program, "x"])
    assert command() is None
