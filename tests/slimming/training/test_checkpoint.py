from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from ocrslim.errors import OcrslimError
from ocrslim.slimming.training import checkpoint
from ocrslim.slimming.training.checkpoint import latest_checkpoint, load_checkpoint, refuse_another_run, save_checkpoint


def test_round_trip_keeps_every_bit(tmp_path: Path) -> None:
    tensors = {"a": torch.randn(3, 4), "half": torch.randn(2).half(), "count": torch.tensor(7)}
    path = save_checkpoint(tmp_path, 12, tensors, {"note": "全角", "history": [1.5]})
    loaded, state = load_checkpoint(path)
    assert set(loaded) == set(tensors)
    assert all(torch.equal(loaded[name], tensors[name]) for name in tensors)
    assert state == {"step": 12, "note": "全角", "history": [1.5]}


def test_only_the_newest_are_kept(tmp_path: Path) -> None:
    for step in (5, 10, 100, 20):
        save_checkpoint(tmp_path, step, {"a": torch.ones(1) * step}, {}, keep=2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step_00000020", "step_00000100"]
    found = latest_checkpoint(tmp_path)
    assert found is not None
    assert found[1]["step"] == 100


def test_a_damaged_newest_falls_back_on_the_one_before(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, 1, {"a": torch.ones(1)}, {})
    newest = save_checkpoint(tmp_path, 2, {"a": torch.ones(1)}, {})
    content = (newest / "state.safetensors").read_bytes()
    (newest / "state.safetensors").write_bytes(content[: len(content) // 2])
    found = latest_checkpoint(tmp_path)
    assert found is not None
    assert found[1]["step"] == 1
    with pytest.raises(OcrslimError, match="step_00000002"):
        load_checkpoint(newest)


def test_nothing_there_is_none(tmp_path: Path) -> None:
    assert latest_checkpoint(tmp_path) is None
    assert latest_checkpoint(tmp_path / "missing") is None


def test_a_full_disk_leaves_the_previous_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = save_checkpoint(tmp_path, 1, {"a": torch.ones(1)}, {})

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint, "save_file", full)
    with pytest.raises(OcrslimError, match="No space left"):
        save_checkpoint(tmp_path, 2, {"a": torch.ones(1)}, {})
    assert [path.name for path in tmp_path.iterdir()] == [first.name]


def test_a_leftover_partial_folder_is_no_checkpoint(tmp_path: Path) -> None:
    partial = tmp_path / ".step_00000009.partial"
    partial.mkdir()
    (partial / "state.json").write_text(json.dumps({"step": 9}))
    assert latest_checkpoint(tmp_path) is None


def test_a_checkpoint_of_the_same_step_is_replaced(tmp_path: Path) -> None:
    for value in (1.0, 2.0):
        path = save_checkpoint(tmp_path, 7, {"a": torch.full((2,), value)}, {"value": value})
    tensors, state = load_checkpoint(path)
    assert tensors["a"].tolist() == [2.0, 2.0]
    assert state["value"] == 2.0
    assert [item.name for item in tmp_path.iterdir()] == ["step_00000007"]


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-3])


def _flip_header(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[10] ^= 0xFF
    path.write_bytes(bytes(content))


@pytest.mark.parametrize("name", ["state.json", "state.safetensors", "sha256.json"])
@pytest.mark.parametrize(
    "damage",
    [Path.unlink, _cut, lambda path: path.write_bytes(b""), lambda path: path.write_bytes(b"\xff\xfe\x00rubbish")],
    ids=["gone", "cut", "empty", "rubbish"],
)
def test_any_damage_is_found_and_named(tmp_path: Path, name: str, damage: Callable[[Path], object]) -> None:
    save_checkpoint(tmp_path, 3, {"a": torch.arange(6.0)}, {})
    newest = save_checkpoint(tmp_path, 4, {"a": torch.arange(6.0)}, {"history": []})
    damage(newest / name)
    with pytest.raises(OcrslimError, match=r"step_00000004.*not a readable checkpoint.*older one"):
        load_checkpoint(newest)
    found = latest_checkpoint(tmp_path)
    assert found is not None
    assert found[1]["step"] == 3


def test_a_damaged_header_is_no_crash(tmp_path: Path) -> None:
    path = save_checkpoint(tmp_path, 1, {"a": torch.arange(6.0)}, {})
    _flip_header(path / "state.safetensors")
    with pytest.raises(OcrslimError, match="step_00000001"):
        load_checkpoint(path)
    assert latest_checkpoint(tmp_path) is None


def test_files_among_the_checkpoints_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "step_notes.txt").write_text("mine")
    (tmp_path / "other").mkdir()
    for step in (1, 2, 3):
        save_checkpoint(tmp_path, step, {"a": torch.ones(1)}, {}, keep=1)
    assert sorted(item.name for item in tmp_path.iterdir()) == ["other", "step_00000003", "step_notes.txt"]


def test_steps_are_ordered_by_number_beyond_four_digits(tmp_path: Path) -> None:
    for step in (99_999, 100_000, 9):
        save_checkpoint(tmp_path, step, {"a": torch.ones(1)}, {}, keep=3)
    found = latest_checkpoint(tmp_path)
    assert found is not None
    assert found[1]["step"] == 100_000


def test_tensors_are_taken_as_they_are_shared_strided_or_learnt(tmp_path: Path) -> None:
    base = torch.arange(12.0).reshape(3, 4)
    tensors = {"whole": base, "turned": base.T, "column": base[:, 1], "learnt": torch.nn.Parameter(base * 2)}
    loaded, _ = load_checkpoint(save_checkpoint(tmp_path, 1, tensors, {}))
    for name, tensor in tensors.items():
        assert torch.equal(loaded[name], tensor), name
        assert not loaded[name].requires_grad


def test_a_folder_that_is_a_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").write_text("in the way")
    with pytest.raises(OcrslimError, match=r"could not be written .*; free some space and run again"):
        save_checkpoint(tmp_path / "checkpoints", 1, {"a": torch.ones(1)}, {})
    assert (tmp_path / "checkpoints").read_text() == "in the way"


def test_nothing_in_a_checkpoint_is_code(tmp_path: Path) -> None:
    path = save_checkpoint(tmp_path, 1, {"a": torch.ones(1)}, {"note": "x"})
    assert sorted(item.name for item in path.iterdir()) == ["sha256.json", "state.json", "state.safetensors"]
    assert json.loads((path / "state.json").read_text(encoding="utf-8")) == {"step": 1, "note": "x"}
    with pytest.raises(TypeError):
        save_checkpoint(tmp_path, 2, {"a": torch.ones(1)}, {"object": object()})
    found = latest_checkpoint(tmp_path)
    assert found is not None
    assert found[1]["step"] == 1


@pytest.mark.parametrize("name", ["state.json", "state.safetensors"])
def test_a_single_changed_byte_is_found(tmp_path: Path, name: str) -> None:
    save_checkpoint(tmp_path, 3, {"a": torch.arange(6.0)}, {"value": 1})
    newest = save_checkpoint(tmp_path, 4, {"a": torch.arange(6.0)}, {"value": 11})
    content = (newest / name).read_bytes()
    # The last byte of a tensor, and a digit: both can be read, and are wrong.
    damaged = content[:-1] + b"\x01" if name.endswith("tensors") else content.replace(b"11", b"12")
    (newest / name).write_bytes(damaged)
    with pytest.raises(OcrslimError, match=f"{name} is not what was written"):
        load_checkpoint(newest)
    found = latest_checkpoint(tmp_path)
    assert found is not None
    assert found[1] == {"step": 3, "value": 1}


def test_what_a_killed_run_left_half_written_is_swept_up(tmp_path: Path) -> None:
    (tmp_path / ".step_00000001.partial").mkdir()
    (tmp_path / ".step_00000001.partial" / "state.safetensors").write_bytes(b"half")
    save_checkpoint(tmp_path, 2, {"a": torch.ones(1)}, {})
    assert [item.name for item in tmp_path.iterdir()] == ["step_00000002"]


FULL = """
import resource, signal, sys, torch
from pathlib import Path
from ocrslim.errors import OcrslimError
from ocrslim.slimming.training.checkpoint import save_checkpoint
folder = Path(sys.argv[1])
save_checkpoint(folder, 1, {"a": torch.ones(10)}, {"value": 1})
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
try:
    save_checkpoint(folder, 2, {"a": torch.ones(100_000)}, {"value": 2})
except OcrslimError as error:
    print(error)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="a limit of the file's size stands for a full disk")
def test_a_disk_that_takes_no_more_leaves_the_previous_checkpoint(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", FULL, str(tmp_path)], capture_output=True, text=True, check=True)
    assert "step_00000002: the checkpoint could not be written" in done.stdout
    assert done.stdout.count("\n") == 1
    found = latest_checkpoint(tmp_path)
    assert found is not None
    assert found[1] == {"step": 1, "value": 1}
    assert [item.name for item in tmp_path.iterdir()] == ["step_00000001"]


@pytest.mark.parametrize(
    ("saved", "own", "said"),
    [
        ({"seed": 0, "steps": 5}, {"seed": 1, "steps": 5}, "(seed was 0, is 1)"),
        ({"a": 1}, {"a": 1, "b": None, "c": 2}, "(c was null, is 2)"),
        ({"loss": {"kind": "l2", "weight": 1}}, {"loss": {"kind": "kl", "weight": 1}}, '(loss.kind was "l2", is "kl")'),
        ({"x": 1, "y": 2}, {"x": 3, "y": 4}, "(x was 1, is 3; y was 2, is 4)"),
        ({"x": "a" * 100}, {"x": "b"}, '(x was "' + "a" * 59 + '..., is "b")'),
    ],
)
def test_the_differing_settings_are_named(tmp_path: Path, saved: object, own: object, said: str) -> None:
    with pytest.raises(OcrslimError, match="of a run with other settings") as caught:
        refuse_another_run(tmp_path, json.dumps(saved), json.dumps(own))
    assert said in str(caught.value)
    refuse_another_run(tmp_path, json.dumps(own), json.dumps(own))


def test_checkpoints_of_a_version_that_hashed_the_settings_say_so(tmp_path: Path) -> None:
    with pytest.raises(OcrslimError, match=r"settings \(an earlier version of ocrslim wrote them\); take another"):
        refuse_another_run(tmp_path, "9f86d081884c7d65", '{"seed": 0}')


@pytest.mark.parametrize(("saved", "own"), [("abc", "abd"), ("", "x"), ("[1]", "[2]"), ('{"a": 1}', "x")])
def test_settings_that_are_only_hashed_are_refused_too(tmp_path: Path, saved: str, own: str) -> None:
    with pytest.raises(OcrslimError, match=r"other settings.*; take another --out or delete them"):
        refuse_another_run(tmp_path, saved, own)
