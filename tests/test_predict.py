"""Reading files: the result against its published schema, broken pages, pictures, and two pairs side by side."""

from __future__ import annotations

import errno
import json
import os
import shutil
import sys
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from ocrslim import predict
from ocrslim.errors import DataError, InputError, ModelError
from ocrslim.graph.importers.source import open_model
from ocrslim.ocr.fonts import Font
from ocrslim.predict import predict_files
from ocrslim.reference import float_original

jsonschema = pytest.importorskip("jsonschema", reason="the extra [test] is not installed")
DET, REC = "PP-OCRv6_tiny_det", "PP-OCRv6_tiny_rec"
Predict = Callable[..., dict[str, Any]]
WritePdf = Callable[..., Path]


@pytest.fixture(scope="module")
def models(zoo: Callable[[str], Path]) -> tuple[Path, Path]:
    return zoo(DET).parent, zoo(REC).parent


@pytest.fixture
def read(models: tuple[Path, Path]) -> Predict:
    """Return predict_files with the models given; what it returns holds to the schema."""
    validator = _validator()

    def call(*inputs: Path, det: Any = models[0], rec: Any = models[1], **options: Any) -> dict[str, Any]:
        result = predict_files(inputs, det, rec, engine="onnxruntime", threads=1, **options)
        validator.validate(json.loads(json.dumps(result, allow_nan=False)))
        return result

    return call


def _validator() -> Any:
    schema = json.loads(files("ocrslim.report").joinpath("predict.schema.json").read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def _drawn(*lines: str, width: int = 420) -> NDArray[np.uint8]:
    font = Font("uni")
    page = np.full((40 + 60 * len(lines), width, 3), 255, np.uint8)
    for row, line in enumerate(lines):
        ink = font.draw(line, 32, margin=0)
        page[30 + 60 * row :, 30:][: ink.shape[0], : ink.shape[1]] -= np.repeat(ink[:, :, None], 3, axis=2)
    return page


def _write(path: Path, *lines: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), _drawn(*lines))
    return path


def test_an_image_gives_text_boxes_and_scores(read: Predict, tmp_path: Path) -> None:
    result = read(_write(tmp_path / "a.png", "Invoice 2024", "测试文字"))
    (page,) = result["pages"]
    assert page["text"] == "Invoice 2024\n测试文字"
    assert (page["file"], page["page"], page["width"], page["height"]) == (str(tmp_path / "a.png"), None, 420, 160)
    first = page["lines"][0]
    assert first["text"] == "Invoice 2024"
    assert 0.5 < first["score"] <= 1
    (left, top), (right, _), (_, bottom), _ = first["points"]
    assert left == pytest.approx(30, abs=12)
    assert 180 < right - left < 260
    assert 30 < bottom - top < 60
    assert result["skipped"] == []
    assert result["models"]["rec"]["name"] == REC
    assert result["settings"]["rec"]["height"] == 48
    assert "against" not in result
    assert "picture" not in page


def test_a_folder_of_100_images_with_broken_ones(read: Predict, tmp_path: Path) -> None:
    for index in range(100):
        _write(tmp_path / f"{index:03}.png", f"Number {index:03}")
    (tmp_path / "041.png").write_bytes((tmp_path / "041.png").read_bytes()[:200])
    (tmp_path / "077.png").write_bytes(b"")
    result = read(tmp_path)
    assert len(result["pages"]) == 98
    assert [Path(item["file"]).name for item in result["skipped"]] == ["041.png", "077.png"]
    assert result["skipped"][1]["reason"] == "the image is empty"
    right = sum(page["text"] == f"Number {Path(page['file']).stem}" for page in result["pages"])
    assert right >= 94


def test_a_pdf_of_20_pages_with_a_broken_one(read: Predict, write_pdf: WritePdf, tmp_path: Path) -> None:
    pytest.importorskip("pypdfium2", reason="the extra [pdf] is not installed")
    pages: list[list[str] | None] = [[f"Page number {index}", "Total 128.50"] for index in range(1, 21)]
    pages[12] = None
    result = read(write_pdf(pages, "book.pdf", size=(360, 140)), dpi=100, out=tmp_path / "out")
    assert [page["page"] for page in result["pages"]] == [*range(1, 13), *range(14, 21)]
    assert [(item["page"], item["reason"]) for item in result["skipped"]] == [(13, "the page is damaged")]
    right = [page["text"] == f"Page number {page['page']}\nTotal 128.50" for page in result["pages"]]
    assert sum(right) >= 18
    assert [page["picture"] for page in result["pages"]][-1] == "book-p020.jpg"
    assert len(list((tmp_path / "out").glob("*.jpg"))) == 19
    assert result["settings"]["dpi"] == 100


def test_out_holds_the_result_and_pictures_with_names_of_their_own(read: Predict, tmp_path: Path) -> None:
    for name in ("one/a.png", "two/a.png", "two/A.jpg"):
        _write(tmp_path / name, "Invoice")
    out = tmp_path / "new" / "out"
    result = read(tmp_path / "one", tmp_path / "two", out=out)
    assert {page["picture"] for page in result["pages"]} == {"A-2.jpg", "a-3.jpg", "a.jpg"}
    assert json.loads((out / "predict.json").read_text(encoding="utf-8")) == json.loads(json.dumps(result))
    assert sorted(path.name for path in out.iterdir()) == ["A-2.jpg", "a-3.jpg", "a.jpg", "predict.json"]
    picture = cv2.imread(str(out / "a.jpg"))
    assert picture is not None
    assert picture.shape[1] == 2 * 960


def test_no_file_of_the_users_is_overwritten(read: Predict, tmp_path: Path) -> None:
    scan, other = _write(tmp_path / "scan.jpg", "Invoice"), tmp_path / "scan-2.jpg"
    before = scan.read_bytes()
    other.write_bytes(b"mine")
    for _ in range(2):  # the second run replaces what the first has drawn
        result = read(scan, out=tmp_path)
        assert [page["picture"] for page in result["pages"]] == ["scan-3.jpg"]
        assert sorted(path.name for path in tmp_path.iterdir()) == ["predict.json", *_named("scan-2 scan-3 scan")]
    assert scan.read_bytes() == before
    assert other.read_bytes() == b"mine"


def _named(stems: str) -> list[str]:
    return [f"{stem}.jpg" for stem in stems.split()]


def test_pictures_are_no_pages_of_the_next_run(read: Predict, tmp_path: Path) -> None:
    _write(tmp_path / "a.png", "Invoice")
    for _ in range(2):
        result = read(tmp_path, out=tmp_path / "read")
        assert [Path(page["file"]).name for page in result["pages"]] == ["a.png"]
        assert [page["picture"] for page in result["pages"]] == ["a.jpg"]
    named = read(tmp_path / "read" / "a.jpg", out=tmp_path / "read")  # a file that is named is read, wherever it is
    assert [page["picture"] for page in named["pages"]] == ["a.jpg"]
    with pytest.raises(InputError, match="is a folder that is read; name another one"):
        read(tmp_path, out=tmp_path)


def test_an_opencv_that_cannot_draw_costs_the_picture_alone(
    read: Predict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cannot(*given: Any) -> None:
        raise DataError("no font")

    monkeypatch.setattr(predict, "draw_reading", cannot)
    (page,) = read(_write(tmp_path / "a.png", "Invoice"), out=tmp_path / "out")["pages"]
    assert page["text"] == "Invoice"
    assert page["note"] == "a.jpg: no font"


def test_nothing_readable_is_a_mistake_and_a_page_without_text_is_none(read: Predict, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"none of 1 pages can be read; .*a\.png: no image that can be decoded"):
        read(tmp_path)
    cv2.imwrite(str(tmp_path / "b.png"), np.full((64, 64, 3), 255, np.uint8))
    result = read(tmp_path)
    assert [(page["text"], page["lines"]) for page in result["pages"]] == [("", [])]


def test_the_other_pair_of_the_same_files_agrees(read: Predict, models: tuple[Path, Path], tmp_path: Path) -> None:
    result = read(_write(tmp_path / "a.png", "Invoice", "2024"), against=[str(model) for model in models])
    assert result["against"] | {"models": None} == {
        "models": None,
        **{"boxes_in_both": 2, "only_here": 0, "only_there": 0, "texts_equal": 2, "texts_changed": 0},
        **{"pages_changed": 0, "norm_edit_distance": 1.0},
    }
    assert result["pages"][0]["difference"]["equal"] == 2


def _folder(model: Path, folder: Path, **told: Any) -> Path:
    """Return a folder as compress leaves it, with a model that differs by its bytes."""
    shutil.copytree(model, folder)
    content = (folder / "inference.onnx").read_bytes()
    (folder / "inference.onnx").write_bytes(content + b"\x32\x04note")  # doc_string of ModelProto, field 6
    (folder / "result.json").write_text(json.dumps({"model": told}), encoding="utf-8")
    return folder


def test_float_is_found_by_result_json(read: Predict, models: tuple[Path, Path], tmp_path: Path) -> None:
    page = _write(tmp_path / "a.png", "Invoice")
    rec = _folder(models[1], tmp_path / "rec", path=str(models[1] / "inference.onnx"), name=REC)
    result = read(page, rec=rec, against=["float"], out=tmp_path / "out")
    theirs = result["against"]["models"]
    assert theirs["rec"]["path"] == str(models[1] / "inference.onnx")
    assert theirs["rec"]["sha256"] != result["models"]["rec"]["sha256"]
    assert theirs["det"]["sha256"] == result["models"]["det"]["sha256"]
    assert result["against"]["texts_equal"] == 1
    picture = cv2.imread(str(tmp_path / "out" / "a.jpg"))
    assert picture is not None
    assert picture.shape[1] == 3 * 960


def test_the_original_of_a_paddle_model_is_that(models: tuple[Path, Path], tmp_path: Path) -> None:
    """Beside the ONNX file in the cache that it was converted into lies no dictionary."""
    (tmp_path / "cache").mkdir()
    bare = onnx.load(models[1] / "inference.onnx")
    del bare.metadata_props[:]
    onnx.save(bare, tmp_path / "cache" / "m.onnx")
    cached = str(tmp_path / "cache" / "m.onnx")
    ours = open_model(_folder(models[1], tmp_path / "a", path=cached, paddle=str(models[1])))
    found = float_original(ours)
    assert found is not None
    assert found.path.parent == models[1]
    told = {"path": cached, "paddle": str(tmp_path / "gone"), "name": "mine"}
    (tmp_path / "a" / "result.json").write_text(json.dumps({"model": told}), encoding="utf-8")
    lone = float_original(ours)
    assert lone is not None
    assert lone.characters is None


def test_a_float_recogniser_without_a_dictionary_takes_ours(
    read: Predict, models: tuple[Path, Path], tmp_path: Path
) -> None:
    bare = onnx.load(models[1] / "inference.onnx")
    del bare.metadata_props[:]
    onnx.save(bare, tmp_path / "m.onnx")
    rec = _folder(models[1], tmp_path / "rec", path=str(tmp_path / "m.onnx"), name="mine")
    page = _write(tmp_path / "a.png", "Invoice")
    assert read(page, rec=rec, against=["float"])["against"]["texts_equal"] == 1
    both = [str(models[0]), str(tmp_path / "m.onnx")]
    assert read(page, rec=rec, against=both)["against"]["texts_equal"] == 1


def test_the_original_by_its_path_else_by_its_name(models: tuple[Path, Path], tmp_path: Path) -> None:
    by_name = open_model(_folder(models[1], tmp_path / "a", path=str(tmp_path / "gone.onnx"), name=REC))
    found = float_original(by_name)
    assert found is not None
    assert found.name == REC
    gone = open_model(_folder(models[1], tmp_path / "b", path=str(tmp_path / "gone.onnx"), name="mine"))
    with pytest.raises(ModelError, match=r"gone\.onnx is not there any more; name it: --against DET REC"):
        float_original(gone)
    untold = open_model(_folder(models[1], tmp_path / "c"))
    with pytest.raises(ModelError, match=r"names no model\.path"):
        float_original(untold)
    assert float_original(open_model(models[0])) is None


@pytest.mark.parametrize(
    ("against", "said"),
    [
        (["float"], "neither model lies in a folder that compress wrote"),
        (["a"], "say float, or name"),
        (["a"] * 3, "a a a"),
    ],
)
def test_against_what(read: Predict, tmp_path: Path, against: list[str], said: str) -> None:
    with pytest.raises(InputError, match=said):
        read(_write(tmp_path / "a.png", "x"), against=against)


def test_against_the_wrong_way_round(read: Predict, models: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="name det, then rec"):
        read(_write(tmp_path / "a.png", "x"), against=[str(models[1]), str(models[0])])


def test_readings_that_differ_are_counted_and_listed(
    read: Predict, tmp_path: Path, zoo: Callable[[str], Path], models: tuple[Path, Path]
) -> None:
    page = _write(tmp_path / "a.png", "l1Il1I 0O0O", "Invoice")
    other = zoo("PP-OCRv4_mobile_rec").parent
    result = read(page, against=[str(models[0]), str(other)])
    against, difference = result["against"], result["pages"][0]["difference"]
    assert against["boxes_in_both"] == 2
    assert against["texts_equal"] + against["texts_changed"] == 2
    assert len(difference["changed"]) == against["texts_changed"] >= 1
    item = difference["changed"][0]
    assert item["other"]["text"] != result["pages"][0]["lines"][item["line"]]["text"]
    assert 0 < against["norm_edit_distance"] < 1
    assert against["norm_edit_distance"] == difference["norm_edit_distance"]
    assert against["pages_changed"] == 1


def test_progress_counts_every_page(read: Predict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[Any, ...]] = []

    class Bar:
        def __enter__(self) -> Callable[..., None]:
            return lambda *told: seen.append(told)

        def __exit__(self, *_: object) -> None: ...

    monkeypatch.setattr(predict, "progress_bar", lambda name, console: Bar())
    _write(tmp_path / "a.png", "x")
    (tmp_path / "b.png").write_bytes(b"")
    _write(tmp_path / "c.png", "x")
    read(tmp_path)
    assert seen == [(1, 3, None), (2, 3, {"skipped": 1}), (3, 3, {"skipped": 1})]


@pytest.mark.skipif(sys.platform != "linux", reason="file names are text elsewhere")
def test_a_name_that_is_no_utf8_is_valid_json_all_the_same(read: Predict, tmp_path: Path) -> None:
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.png"))
    shutil.move(_write(tmp_path / "a.png", "x"), path)
    result = read(path, out=tmp_path / "out")
    assert json.dumps(result, ensure_ascii=False).encode()
    assert result["pages"][0]["file"].endswith("\ufffd.png")
    assert result["pages"][0]["picture"].encode()


@pytest.mark.parametrize("content", [b'{"pages": [1, 2]}', b"[]", b"{", b"\xff", None])
def test_anothers_result_is_refused_before_anything_is_read(tmp_path: Path, content: bytes | None) -> None:
    place = tmp_path / "out" / "predict.json"
    place.parent.mkdir()
    place.mkdir() if content is None else place.write_bytes(content)
    with pytest.raises(InputError, match=r"--out .*out: the predict.json there is none of ocrslim's; move it away or"):
        predict_files([tmp_path / "nothing.png"], "no model", "none", out=place.parent)
    assert content is None or place.read_bytes() == content


@pytest.mark.parametrize("stem", ["a" * 240, "é" * 120, "文" * 80, "𝔘" * 60])
def test_a_picture_has_a_shorter_name_than_a_file_may_have(read: Predict, tmp_path: Path, stem: str) -> None:
    for folder in ("one", "two"):
        _write(tmp_path / "a.png", "x").rename(_made(tmp_path / folder) / f"{stem}.png")
    result = read(tmp_path / "one", tmp_path / "two", out=tmp_path / "out")
    first, second = (page["picture"] for page in result["pages"])
    assert stem.startswith(first.removesuffix(".jpg"))
    assert 96 < len(first.removesuffix(".jpg").encode()) <= 100
    assert second == first.removesuffix(".jpg") + "-2.jpg"
    assert (tmp_path / "out" / first).is_file()
    assert (tmp_path / "out" / "predict.json").is_file()


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


def test_a_picture_that_cannot_be_written_is_noted_and_the_run_goes_on(
    read: Predict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a", "b"):
        _write(tmp_path / "in" / f"{name}.png", "Invoice")

    def full(path: Path, data: bytes) -> None:
        if path.name == "a.jpg":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        path.write_bytes(data)

    monkeypatch.setattr(predict, "write_bytes", full)
    result = read(tmp_path / "in", out=tmp_path / "out")
    assert [page.get("picture") for page in result["pages"]] == [None, "b.jpg"]
    assert [page.get("note") for page in result["pages"]] == [
        "a.jpg: this picture can't be written (No space left on device)",
        None,
    ]
    assert [page["text"] for page in result["pages"]] == ["Invoice"] * 2
    assert json.loads((tmp_path / "out" / "predict.json").read_text("utf-8"))["pages"] == result["pages"]


def test_a_result_that_cannot_be_written_is_one_line(
    read: Predict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, data: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(predict, "write_json", full)
    with pytest.raises(
        InputError, match=r"--out .*out: predict\.json can't be written .No space left on device.; make"
    ):
        read(_write(tmp_path / "a.png", "x"), out=tmp_path / "out")


def test_an_original_whose_path_is_longer_than_any_is_not_there(models: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="is not there any more; name it"):
        float_original(open_model(_folder(models[1], tmp_path / "a", path="x" * 300, name="mine")))


def test_a_folder_that_cannot_be_made(read: Predict, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"--out .*file.*: can't be made"):
        read(_write(tmp_path / "a.png", "x"), out=tmp_path / "file" / "out")


@pytest.mark.parametrize("wrong", [{"pages": None}, {"more": 1}, {"schema": 2}, {"seconds": -1}])
def test_the_schema_refuses_what_is_not_so(read: Predict, tmp_path: Path, wrong: dict[str, Any]) -> None:
    result = read(_write(tmp_path / "a.png", "x"))
    with pytest.raises(jsonschema.ValidationError):
        _validator().validate(result | wrong)
