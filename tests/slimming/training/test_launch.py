"""Processes started on this machine: what they are told, and what their ends come to."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path

import pytest

from ocrslim.errors import InputError
from ocrslim.slimming.training.launch import PATIENCE, coordinate, launch, processes

WRITE = """
import json, os, sys, pathlib
names = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "TORCHELASTIC_USE_AGENT_STORE")
pathlib.Path(sys.argv[1], os.environ["RANK"]).write_text(json.dumps([os.environ[name] for name in names]))
"""


def test_each_is_told_what_it_is(tmp_path: Path) -> None:
    assert launch(["-c", WRITE, str(tmp_path)], 2) == 0
    told = [json.loads((tmp_path / str(rank)).read_text()) for rank in range(2)]
    assert told == [[str(rank), str(rank), "2", "127.0.0.1", "True"] for rank in range(2)]


@pytest.mark.parametrize(
    ("ends", "code"), [("[0, 2]", 2), ("[1, 0]", 1), ("[0, 130]", 130), ("[0, 77]", 1), ("[0, 0]", 0)]
)
def test_what_the_ends_come_to(ends: str, code: int) -> None:
    assert launch(["-c", f"import os, sys; sys.exit({ends}[int(os.environ['RANK'])])"], 2) == code


def test_a_killed_one_is_a_failure() -> None:
    kill = "import os, signal; os.environ['RANK'] == '1' and os.kill(os.getpid(), signal.SIGKILL)"
    assert launch(["-c", kill], 2) == 1


MEET = """
import os, sys, pathlib
if os.environ["RANK"] == "1":
    sys.exit(int(sys.argv[2]))
from ocrslim.slimming.training.distributed import team_of
from ocrslim.slimming.training.lifeline import LostRankError
try:
    with team_of():
        pass
except LostRankError as error:
    assert error.told
    pathlib.Path(sys.argv[1]).write_text(str(error))
    sys.exit(1)
"""


@pytest.mark.parametrize("code", [3, 2])
def test_who_ends_before_it_has_come_is_named_and_nobody_waits(
    tmp_path: Path, code: int, capfd: pytest.CaptureFixture[str]
) -> None:
    began = time.monotonic()
    assert launch(["-c", MEET, str(tmp_path / "said"), str(code)], 2) == (1 if code == 3 else 2)
    assert time.monotonic() - began < PATIENCE, "it was not killed for want of an end of its own"
    said = (tmp_path / "said").read_text()
    assert re.fullmatch(
        rf"rank 1 \(process \d+\) ended with code {code}; the same command goes on from the last checkpoint", said
    )
    # Who refused its input has said why by itself.
    assert capfd.readouterr().err == ("" if code == 2 else f"ocrslim: {said}\n")


def test_alone_where_the_environment_says_nothing_or_nonsense() -> None:
    told = {"RANK": "0", "WORLD_SIZE": "3", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1"}
    assert processes(told) == 3
    assert processes(told | {"WORLD_SIZE": "x"}) == 1
    assert processes(told | {"WORLD_SIZE": "\u00b2"}) == 1  # a digit, and no number
    assert processes({name: value for name, value in told.items() if name != "MASTER_ADDR"}) == 1
    assert processes({}) == 1


def test_a_coordinate_is_a_number() -> None:
    assert coordinate("RANK", {"RANK": "17"}) == 17
    assert coordinate("RANK", {}, default="0") == 0
    for said in ("x", "-1", "1.5", "", " 1", "\u00b2", "9" * 5000):
        with pytest.raises(InputError, match=r"RANK is '.*', not a number from 0 to 999999: start the processes with"):
            coordinate("RANK", {"RANK": said})
    with pytest.raises(InputError, match="MASTER_PORT is '70000', not a number from 0 to 65535"):
        coordinate("MASTER_PORT", {"MASTER_PORT": "70000"}, 65_535)
