"""What CI runs covers the slow tests of this folder and of the exports; the rest of them is named by hand."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[1]
SLOW = re.compile(r"^(?:@|pytestmark = )pytest\.mark\.slow", re.MULTILINE)
FILES = sorted(
    path.relative_to(PROJECT)
    for folder in ("tests", "tests/export")
    for path in (PROJECT / folder).glob("test_*.py")
    if SLOW.search(path.read_text(encoding="utf-8"))
)


@pytest.mark.skipif(not shutil.which("bash"), reason="the script is of bash")
def test_every_file_with_slow_tests_is_run(tmp_path: Path) -> None:
    """The script is given a pytest and a python that only say what they were asked."""
    for name in ("pytest", "python", "ruff", "mypy", "mkdocs", "npm", "apt-get"):
        (tmp_path / name).write_text(f'#!/bin/sh\necho {name} "$@"\n', encoding="utf-8")
        (tmp_path / name).chmod(0o755)
    (tmp_path / "chromium").symlink_to("pytest")
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "VIRTUAL_ENV": "there", "OCRSLIM_TEST_DATA": "/images"}
    done = subprocess.run(
        ["bash", PROJECT / ".ci" / "run"], env=environment, capture_output=True, text=True, check=True, timeout=60
    )
    lines = done.stdout.splitlines()
    asked = {word for line in lines if re.match(r"pytest -rs -m .*slow", line) for word in line.split()}
    assert len(FILES) > 10
    assert [str(path) for path in FILES if str(path) not in asked] == []
    (plain,) = (number for number, line in enumerate(lines) if line == "pytest -rs -n 2 --dist loadfile")
    (without,) = (number for number, line in enumerate(lines) if "benchmarks/without_torch.py" in line)
    assert plain < without
    assert "--det-data /images/det/labels/val.txt --rec-data /images/rec/labels/val.txt" in lines[without]
