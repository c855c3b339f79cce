"""Pages of PDF files: drawn as they should be, and within bounds."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocrslim.errors import DataError, InputError
from ocrslim.ocr import pdf
from ocrslim.ocr.pdf import PdfFile, is_pdf

pytest.importorskip("pypdfium2", reason="the extra [pdf] is not installed")
WritePdf = Callable[..., Path]


def test_a_page_has_the_size_of_its_dpi_and_dark_text_on_white(write_pdf: WritePdf) -> None:
    with PdfFile(write_pdf([["Hello"], ["World", "again"]])) as file:
        assert file.pages == 2
        page = file.render(1, 144)
        assert page.shape == (600, 840, 3)
        assert page.dtype == np.uint8
        assert (page[0, 0] == 255).all()
        ink = np.argwhere(page.min(axis=2) < 100)
        assert 40 < ink[:, 0].min() < ink[:, 0].max() < 120  # a baseline 50 points below the top, letters of 24
        assert file.render(1, 72).shape == (300, 420, 3)
        assert (file.render(2, 144) < 100).sum() > 1.5 * (page < 100).sum()


def test_pages_are_in_bgr(write_pdf: WritePdf) -> None:
    path = write_pdf([["x"]])
    content = path.read_bytes().replace(b"/F 24 Tf", b"1 0 0 rg")  # the text loses its font: nothing is drawn
    length = b"1 0 0 rg 0 0 420 300 re f"
    path.write_bytes(content.replace(b"BT 1 0 0 rg 30 250 Td (x) Tj ET", length.ljust(31)))
    with PdfFile(path) as file:
        assert file.render(1, 36)[50, 50].tolist() == [0, 0, 255]


def test_a_missing_page_is_an_error_of_that_page_alone(write_pdf: WritePdf) -> None:
    with PdfFile(write_pdf([["one"], None, ["three"]], "book.pdf")) as file:
        assert file.pages == 3
        with pytest.raises(DataError, match=r"book\.pdf, page 2: the page is damaged"):
            file.render(2)
        assert (file.render(3) < 100).any()


@pytest.mark.parametrize("content", [b"", b"no PDF at all", b"%PDF-1.4\n", b"\0" * 5000])
def test_a_file_that_is_no_pdf(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.pdf"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"x\.pdf: can't be opened"):
        PdfFile(path)


def test_a_missing_file_and_a_folder(tmp_path: Path) -> None:
    for path in (tmp_path / "none.pdf", tmp_path):
        with pytest.raises(DataError, match="no such PDF"):
            PdfFile(path)


def test_a_locked_file_says_so(write_pdf: WritePdf) -> None:
    path = write_pdf([["x"]])
    key = b"/Encrypt<</Filter/Standard/V 1/R 2/P -1/O<" + b"00" * 32 + b">/U<" + b"11" * 32 + b">>>/ID[<01><01>]>>"
    path.write_bytes(path.read_bytes().replace(b"/Root 1 0 R>>", b"/Root 1 0 R" + key))
    with pytest.raises(DataError, match="locked by a password"):
        PdfFile(path)


def test_a_page_of_the_size_of_a_field_is_refused_before_it_is_drawn(write_pdf: WritePdf) -> None:
    with (
        PdfFile(write_pdf([["x"]], size=(14_400, 14_400))) as file,
        pytest.raises(DataError, match=r"40000 x 40000 pixels at 200 dpi.*another --dpi"),
    ):
        file.render(1)


def test_bounds_on_pages_and_bytes(write_pdf: WritePdf, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_pdf([["x"]] * 3)
    monkeypatch.setattr(pdf, "MAX_PAGES", 2)
    with pytest.raises(DataError, match="3 pages; PDFs of 1 to 2"):
        PdfFile(path)
    monkeypatch.setattr(pdf, "MAX_BYTES", 100)
    with pytest.raises(DataError, match="PDFs of at most"):
        PdfFile(path)


def test_without_pypdfium2_one_line_says_how_to_get_it(write_pdf: WritePdf, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pypdfium2", None)
    with pytest.raises(InputError, match=r"a\.pdf: reading PDF files needs pypdfium2: pip install 'ocrslim\[pdf\]'"):
        PdfFile(write_pdf([["x"]]))


def test_names() -> None:
    assert is_pdf(Path("a/B.PDF"))
    assert not is_pdf(Path("pdf/a.png"))


@given(data=st.data())
def test_damaged_files_are_refused_or_read_but_never_crash(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.getbasetemp() / "damaged.pdf"
    content = bytearray(
        b"%PDF-1.4\n1 0 obj<</Type/Catalog/Pages 2 0 R>>endobj 2 0 obj<</Type/Pages/Kids[3 0 R]/Count 1>>endobj\n"
        b"3 0 obj<</Type/Page/Parent 2 0 R/MediaBox[0 0 20 20]/Contents 4 0 R>>endobj\n"
        b"4 0 obj<</Length 16>>stream\n0 0 10 10 re f  \nendstream endobj\ntrailer<</Size 5/Root 1 0 R>>\n%%EOF\n"
    )
    for _ in range(data.draw(st.integers(0, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content)
    try:
        with PdfFile(path) as file:
            assert file.render(1, 72).ndim == 3
    except DataError as error:
        assert "damaged.pdf" in str(error)  # noqa: PT017 - both ends are fine, each is checked
