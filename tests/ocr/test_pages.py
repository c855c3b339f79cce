"""Images, folders and PDF files as one sequence of pages."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from ocrslim.errors import DataError
from ocrslim.ocr.pages import Page, SkippedPage, count_pages, find_files, read_pages

WriteImage = Callable[..., Path]
WritePdf = Callable[..., Path]


def _names(pages: list[Page | SkippedPage]) -> list[tuple[str, int | None, bool]]:
    return [(page.file.name, page.number, isinstance(page, Page)) for page in pages]


def test_a_folder_gives_its_images_and_pdfs_sorted_but_nothing_hidden(tmp_path: Path, write_image: WriteImage) -> None:
    folder = tmp_path / "in"
    for name in ("b.png", "sub/a.jpg", ".hidden/c.png", ".d.png"):
        write_image(folder / name)
    (folder / "notes.txt").write_text("no image")
    for name in ("c.PDF", ".e.pdf", ".hidden/f.pdf"):
        (folder / name).write_bytes(b"%PDF")
    (folder / "folder.pdf").mkdir()
    found = find_files([folder])
    assert [str(path.relative_to(folder)) for path in found] == ["b.png", "c.PDF", "sub/a.jpg"]


def test_the_users_order_is_kept_and_nothing_is_read_twice(tmp_path: Path, write_image: WriteImage) -> None:
    first, second = write_image(tmp_path / "z.png"), write_image(tmp_path / "a.png")
    assert find_files([first, second, first]) == [first, second]
    assert find_files([first, tmp_path]) == [first, second]


def test_a_named_file_is_taken_whatever_its_ending(tmp_path: Path, write_image: WriteImage) -> None:
    odd = write_image(tmp_path / "scan.png").rename(tmp_path / "scan.dat")
    (page,) = read_pages(find_files([odd]))
    assert isinstance(page, Page)
    assert page.image.shape == (20, 40, 3)


def test_what_does_not_exist_or_is_empty_is_a_mistake(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.png: no such image, folder or PDF"):
        find_files([tmp_path / "none.png"])
    with pytest.raises(DataError, match="neither images nor PDFs"):
        find_files([tmp_path])


def test_broken_images_are_passed_over(tmp_path: Path, write_image: WriteImage) -> None:
    write_image(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes(b"no image")
    (tmp_path / "c.jpg").write_bytes(b"")
    write_image(tmp_path / "d.png", seed=1)
    files = find_files([tmp_path])
    pages = list(read_pages(files))
    assert _names(pages) == [
        ("a.png", None, True),
        ("b.png", None, False),
        ("c.jpg", None, False),
        ("d.png", None, True),
    ]
    assert count_pages(files) == 4
    assert isinstance(pages[1], SkippedPage)
    assert pages[1].reason.startswith("no image that can be decoded")
    first, last = pages[0], pages[3]
    assert isinstance(first, Page)
    assert isinstance(last, Page)
    assert not np.array_equal(first.image, last.image)
    assert first.name == str(tmp_path / "a.png")


def test_pdf_pages_come_between_the_images(tmp_path: Path, write_image: WriteImage, write_pdf: WritePdf) -> None:
    pytest.importorskip("pypdfium2", reason="the extra [pdf] is not installed")
    write_pdf([["one"], None, ["three"]], "b.pdf")
    (tmp_path / "c.pdf").write_bytes(b"%PDF-1.4 and no more")
    write_image(tmp_path / "a.png")
    write_image(tmp_path / "d.png")
    files = find_files([tmp_path])
    pages = list(read_pages(files, 72))
    assert _names(pages) == [
        ("a.png", None, True),
        *[("b.pdf", 1, True), ("b.pdf", 2, False), ("b.pdf", 3, True)],
        ("c.pdf", None, False),
        ("d.png", None, True),
    ]
    assert count_pages(files) == len(pages)
    broken, damaged, third = pages[2], pages[4], pages[3]
    assert isinstance(broken, SkippedPage)
    assert broken.reason == "the page is damaged"
    assert isinstance(damaged, SkippedPage)
    assert damaged.reason.startswith("can't be opened")
    assert isinstance(third, Page)
    assert third.image.shape == (300, 420, 3)
    assert third.name.endswith("b.pdf, page 3")


def test_pages_are_read_one_at_a_time(tmp_path: Path, write_image: WriteImage) -> None:
    files = [write_image(tmp_path / "a.png"), tmp_path / "never.png"]
    pages = read_pages(files)
    assert isinstance(next(pages), Page)
    write_image(files[1])  # it comes to be only now, and is found
    assert isinstance(next(pages), Page)


def test_a_name_longer_than_any_file_has_is_one_clear_line() -> None:
    with pytest.raises(DataError, match=r"^x{300}: no such image, folder or PDF$"):
        find_files([Path("x" * 300)])


def test_a_folder_that_one_may_not_enter_is_one_clear_line(tmp_path: Path, no_entry: Callable[[str], None]) -> None:
    (tmp_path / "closed").mkdir()
    no_entry("closed/")
    with pytest.raises(DataError, match=r"a\.png: no such image, folder or PDF$"):
        find_files([tmp_path / "closed" / "a.png"])
