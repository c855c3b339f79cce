"""Fonts inside OpenCV and on the machine: what they cover, and what is left out."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from ocrslim.errors import DataError
from ocrslim.ocr import fonts
from ocrslim.ocr.corpus import common_characters
from ocrslim.ocr.fonts import Font, as_fonts, drawable, find_fonts, font_folders


@pytest.mark.parametrize("character", ["中", "龘", "A", "z", "0", "é", "Ω", "я", "あ", "ア", "한", "。", "￥"])
def test_the_built_in_unicode_font_covers_the_scripts_of_the_dictionaries(character: str) -> None:
    assert Font("uni").covers(character)


@pytest.mark.parametrize("character", ["\ue123", "\U000effff", "\U00023249", "\u3000", " "])
def test_a_character_without_a_picture_is_not_covered(character: str) -> None:
    assert not Font("uni").covers(character)


@pytest.mark.parametrize("name", ["uni", "sans", "italic"])
def test_a_question_mark_is_covered_although_it_stands_for_missing_characters(name: str) -> None:
    font = Font(name)
    assert font.covers("?")
    assert not font.covers("\ue123")


def test_what_a_latin_font_lacks_comes_from_the_unicode_font() -> None:
    latin, unicode_font = Font("sans"), Font("uni")
    assert np.array_equal(latin.draw("中", 40), unicode_font.draw("中", 40))
    assert not np.array_equal(latin.draw("g", 40), unicode_font.draw("g", 40))


def test_nearly_all_common_chinese_characters_can_be_drawn() -> None:
    characters = common_characters()
    assert len(drawable(characters)) >= 0.999 * len(set(characters))


def test_drawable_leaves_out_what_does_not_stand_alone_and_keeps_the_order() -> None:
    entries = ["b", "a", " ", "\u3000", "\t", "ab", "", "b", "\u0301", "א", "ع", "\u200b", "\ue123", "中"]
    assert drawable(entries) == ["b", "a", "中"]


def test_size_is_the_size_in_pixels() -> None:
    small, large = (Font("uni").draw("国", size, margin=0).shape for size in (24, 48))
    assert 18 <= small[0] <= 26
    assert 1.8 <= large[0] / small[0] <= 2.2


def test_weight_makes_a_variable_font_bolder() -> None:
    font = Font("sans")
    ink = [int((font.draw("Hamburg", 40, weight) > 127).sum()) for weight in (200, 400, 800)]
    assert ink[0] < ink[1] < ink[2]


def test_spacing_moves_characters_apart_and_changes_nothing_else() -> None:
    font = Font("uni")
    tight, wide = (font.draw("口口口口", 30, spacing=spacing, margin=0) for spacing in (0, 5))
    assert wide.shape == (tight.shape[0], tight.shape[1] + 3 * 5)
    assert int((wide > 0).sum()) == int((tight > 0).sum())


def test_margin_is_what_surrounds_the_ink() -> None:
    ink = Font("uni").draw("Hg", 30, margin=3)
    x, y, width, height = cv2.boundingRect(ink)
    assert (x, y) == (3, 3)
    assert ink.shape == (height + 6, width + 6)


def test_the_canvas_holds_the_widest_line_without_wrapping() -> None:
    text = "国" * 60
    drawn = Font("uni").draw(text, 40, margin=0)
    assert 0.95 * 60 * 40 <= drawn.shape[1] <= 1.05 * 60 * 40
    assert drawn.shape[0] <= 48


def test_folders_are_searched_at_any_depth_and_broken_or_symbol_fonts_left_out(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "broken.ttf").write_bytes(b"not a font at all")
    (tmp_path / "empty.otf").write_bytes(b"")
    (tmp_path / "readme.txt").write_text("no font")
    real = [path for folder in font_folders() for path in folder.rglob("*.ttf") if "Math" not in path.name]
    if real:
        (tmp_path / "a" / "Real.TTF").write_bytes(real[0].read_bytes())
        (tmp_path / "a" / "Some-Symbols.ttf").write_bytes(real[0].read_bytes())
    names = [font.name for font in find_fonts([tmp_path])]
    assert names == ["uni", "sans", "italic"] + ([str(tmp_path / "a" / "Real.TTF")] if real else [])


@pytest.fixture
def real_font() -> bytes:
    """Return the bytes of a TrueType font of this machine; skip where it has none."""
    for folder in font_folders():
        for path in sorted(folder.rglob("*.ttf")):
            if b"glyf" in path.read_bytes()[:512]:
                return path.read_bytes()
    pytest.skip("this machine has no TrueType font installed")


@pytest.mark.parametrize(
    "content",
    [b"", b"x", b"not a font at all", b"ttcf", b"ttcf" + bytes(12), b"OTTO\xff\xff" + bytes(99), b"\0\1\0\0" * 64],
)
def test_what_is_no_font_is_refused_and_does_not_reach_opencv(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "bad.ttf"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"bad\.ttf"):
        Font(path)


@pytest.mark.parametrize("share", [0.001, 0.01, 0.3, 0.9, 0.9999])
def test_a_cut_off_font_is_refused(tmp_path: Path, real_font: bytes, share: float) -> None:
    path = tmp_path / "cut.ttf"
    path.write_bytes(real_font[: int(len(real_font) * share)])
    with pytest.raises(DataError, match="not a whole"):
        Font(path)


@pytest.mark.parametrize("table", [b"cmap", b"head", b"hhea", b"hmtx", b"maxp", b"glyf"])
def test_a_font_without_a_needed_table_is_refused(tmp_path: Path, real_font: bytes, table: bytes) -> None:
    at = real_font.index(table)
    path = tmp_path / "lacking.ttf"
    path.write_bytes(real_font[:at] + b"none" + real_font[at + 4 :])
    with pytest.raises(DataError, match="not a whole"):
        Font(path)


def test_a_collection_is_read_by_its_first_font(tmp_path: Path, real_font: bytes) -> None:
    header = b"ttcf" + bytes((0, 1, 0, 0)) + (1).to_bytes(4, "big") + (16).to_bytes(4, "big")
    count = int.from_bytes(real_font[4:6], "big")
    moved = bytearray(real_font)
    for at in range(12, 12 + 16 * count, 16):  # offsets count from the file's start
        moved[at + 8 : at + 12] = (int.from_bytes(moved[at + 8 : at + 12], "big") + 16).to_bytes(4, "big")
    (tmp_path / "single.ttf").write_bytes(real_font)
    (tmp_path / "many.ttc").write_bytes(header + bytes(moved))
    single, many = Font(tmp_path / "single.ttf"), Font(tmp_path / "many.ttc")
    assert np.array_equal(single.draw("Hello", 30), many.draw("Hello", 30))


def test_no_folder_leaves_the_built_in_fonts() -> None:
    assert [font.name for font in find_fonts([])] == ["uni", "sans", "italic"]


def test_no_more_files_than_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fonts, "_files", lambda folder: [Path(f"{folder}/{i:03}.ttf") for i in range(100)])
    made: list[str] = []

    class Recorded(Font):
        def __init__(self, name: str | Path) -> None:
            made.append(str(name))

    monkeypatch.setattr(fonts, "Font", Recorded)
    find_fonts([Path("fonts")], most=7)
    files = [name for name in made if name.endswith(".ttf")]
    assert len(files) <= 7
    assert files[0] == "fonts/000.ttf"
    assert int(Path(files[-1]).stem) > 80  # spread over all, not the first ones


def test_font_folders_follow_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "share" / "fonts").mkdir(parents=True)
    monkeypatch.setenv("XDG_DATA_DIRS", str(tmp_path / "share"))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "nothing here"))
    assert tmp_path / "share" / "fonts" in font_folders()
    assert tmp_path / "nothing here" / "fonts" not in font_folders()


def test_opencv_without_fonts_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(cv2, "FontFace")
    with pytest.raises(DataError, match=r"opencv-python-headless>=5.*--data"):
        find_fonts()


def test_a_font_that_does_not_load_is_named() -> None:
    with pytest.raises(DataError, match=r"nowhere\.ttf"):
        Font("/nowhere.ttf")


def test_as_fonts_takes_names_and_loaded_fonts_and_refuses_none_at_all() -> None:
    loaded = Font("sans")
    assert as_fonts([loaded]) == [loaded]
    assert [font.name for font in as_fonts(["uni", "italic"])] == ["uni", "italic"]
    assert as_fonts(None)[0].name == "uni"
    with pytest.raises(DataError, match="no fonts"):
        as_fonts([])
