"""Without torch: the book and the folder that are read, and what is told of a reading. CI makes the environment."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import without_torch as script


def _images(folder: Path, count: int) -> list[Path]:
    paths = []
    for index in range(count):
        paths.append(folder / f"{index}.png")
        cv2.imwrite(str(paths[-1]), np.full((60, 90, 3), 10 * index % 250, np.uint8))
    return paths


def test_the_book_has_all_pages_but_one(tmp_path: Path) -> None:
    pytest.importorskip("pypdfium2", reason="the extra [pdf] is not installed")
    from ocrslim.ocr.pages import read_pages

    script.write_book(tmp_path / "book.pdf", _images(tmp_path, 20))
    found = list(read_pages([tmp_path / "book.pdf"], dpi=200))
    assert [page.number for page in found if not hasattr(page, "reason")] == [*range(1, 7), *range(8, 21)]
    assert [page.number for page in found if hasattr(page, "reason")] == [7]
    assert all(abs(a - b) <= 1 for a, b in zip(found[3].image.shape, (60, 90, 3), strict=True))
    assert abs(int(found[3].image[30, 45, 0]) - 30) <= 3  # the fourth image, after JPEG


def test_one_image_of_the_folder_is_cut(tmp_path: Path) -> None:
    paths = _images(tmp_path, 60)
    script.write_folder(tmp_path / "folder", paths)
    sizes = [len((tmp_path / "folder" / f"{n:03}.png").read_bytes()) - len(paths[n - 1].read_bytes()) for n in (49, 50)]
    assert sizes[0] == 0 > sizes[1]


def _reading(**changes: object) -> subprocess.CompletedProcess[str]:
    page = {"file": "a.png", "page": None}
    result = {"pages": [page] * 118, "skipped": []} | changes
    return subprocess.CompletedProcess([], 0, json.dumps(result), "")


def test_problems_are_named() -> None:
    skipped = [{"file": "book.pdf", "page": 7, "reason": "x"}, {"file": "folder/050.jpg", "page": None, "reason": "x"}]
    found = script.problems(_reading(skipped=skipped))
    assert found  # it is no page by the schema
    assert not any("skipped" in line or "were read" in line for line in found)
    found = script.problems(_reading(pages=[]))
    assert "skipped are []" in found
    assert "0 pages were read" in found
    assert script.problems(subprocess.CompletedProcess([], 2, "", "")) == ["predict ended with 2"]


def test_too_few_images_are_refused_before_any_work(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _images(tmp_path, 1)
    (tmp_path / "labels.txt").write_text('0.png\t[{"transcription": "a", "points": [[1,1],[9,1],[9,9],[1,9]]}]\n')
    data = str(tmp_path / "labels.txt")
    assert script.main(["--det-data", data, "--rec-data", data, "--out", str(tmp_path / "out")]) == 2
    assert "has 1 images; 100 are needed" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("fails", "told"),
    [("venv", "no environment can be made"), ("pip", "pip can't install"), ("-c", "torch or Paddle was installed")],
)
def test_an_environment_that_cannot_be_made_is_one_line(
    fails: str, told: str, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What pip says is told where it fails, and only there."""

    def create(folder: Path, with_pip: bool) -> None:
        assert with_pip
        if fails == "venv":
            raise subprocess.CalledProcessError(1, "ensurepip")

    def run(command: Sequence[object], **options: Any) -> subprocess.CompletedProcess[Any]:
        of_pip = "pip" in command
        failed = fails == str(command[2 if of_pip else 1])
        code = f"import sys; {of_pip} and sys.stderr.write('said by pip\\n'); sys.exit({failed})"
        return real([sys.executable, "-c", code], **options)

    real = subprocess.run
    monkeypatch.setattr(script.venv, "create", create)
    monkeypatch.setattr(script.subprocess, "run", run)
    _images(tmp_path, 100)
    boxes = '[{"transcription": "a", "points": [[1,1],[9,1],[9,9],[1,9]]}]'
    (tmp_path / "labels.txt").write_text("".join(f"{number}.png\t{boxes}\n" for number in range(100)))
    data = str(tmp_path / "labels.txt")
    assert script.main(["--det-data", data, "--rec-data", data, "--out", str(tmp_path / "out")]) == 2
    *said, last = capfd.readouterr().err.splitlines()
    assert last.startswith(f"without_torch.py: {tmp_path / 'out' / 'env'}: {told}")
    assert said == (["said by pip"] if fails == "pip" else [])
