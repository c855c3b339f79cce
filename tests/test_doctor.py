"""``ocrslim doctor``: what it says fits the machine that it looks at."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from ocrslim import doctor
from ocrslim.cli import main
from ocrslim.doctor import advice_lines, examine, int8_here
from ocrslim.engines.cpu import CpuInfo, cpu_info, sums_without_saturation


def cpu(*flags: str, cores: int = 2) -> CpuInfo:
    return CpuInfo("Some CPU", cores, flags, sums_without_saturation(flags))


@pytest.mark.parametrize(
    ("flags", "isa", "bits", "said"),
    [
        (("avx2", "fma"), "AVX2, no VNNI", 7, "OpenVINO int8 took 0.72 to 0.78"),
        (("avx2", "avx512f", "avx512bw"), "AVX-512, no VNNI", 7, "OpenVINO int8 took"),
        (("avx2", "avx_vnni"), "AVX2, VNNI", 8, "One instruction multiplies and adds four"),
        (("avx2", "avx512f", "avx512_vnni"), "AVX-512, VNNI", 8, "OpenVINO int8 took 0.5 to 0.75"),
        (("avx2", "avx512f", "avx512_vnni", "amx_int8"), "AVX-512 and AMX, VNNI", 8, "One instruction"),
        (("asimd", "asimddp"), "ARM with 8-bit dot products", 8, "how much was not measured on ARM"),
        (("asimd",), "ARM without 8-bit dot products", 8, "saves size here, hardly time"),
        (("sse4_2",), "no AVX2, no VNNI", 7, "Without AVX2"),
        ((), "no AVX2, no VNNI", 7, "Without AVX2"),
    ],
)
def test_each_kind_of_cpu(
    flags: tuple[str, ...], isa: str, bits: int, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = int8_here(cpu(*flags))
    assert lines[0].startswith(f"Weights have {bits} bits here")
    assert any(said in line for line in lines)
    monkeypatch.setattr(doctor, "cpu_info", lambda: cpu(*flags, cores=1))
    facts = examine()
    assert facts["cpu"]["isa"] == isa
    assert facts["cpu"]["vnni"] == (bits == 8)
    text = "\n".join(advice_lines(facts))
    assert f"CPU: Some CPU, 1 core, {isa} ({' '.join(flags) or 'no flags known'})" in text


def test_no_speed_is_promised_that_was_not_measured() -> None:
    for flags in (("asimd", "i8mm"), ("asimd",), ("sse4_2",)):
        assert not any("Measured" in line for line in int8_here(cpu(*flags)))
    assert any("was not measured on ARM" in line for line in int8_here(cpu("asimd", "i8mm")))


def test_what_is_expected_of_a_cpu_with_vnni_is_what_the_readme_measured() -> None:
    said = " ".join(int8_here(cpu("avx2", "avx512f", "avx512_vnni")))
    assert "not measured" not in said
    low, high = (float(text) for text in re.findall(r"OpenVINO int8 took ([\d.]+) to ([\d.]+)", said)[0])
    table = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
    rows = [line.split("|") for line in table.splitlines() if re.match(r"\| PP-OCR\S+ \| openvino \|", line)]
    ratios = [float(row[7].strip(" ~")) for row in rows if row[10:] and row[10].strip() == "int8"]
    assert len(ratios) >= 8
    assert low - 0.05 <= min(ratios)
    assert max(ratios) <= high + 0.05


def test_what_is_expected_of_onnx_runtime_is_what_the_readme_measured() -> None:
    """PP-OCRv6 tiny is named apart. Bounds are given to a twentieth: more than half of that off is another bound."""
    said = " ".join(int8_here(cpu("avx2", "avx512f", "avx512_vnni")))
    found = re.findall(r"Runtime ([\d.]+) to ([\d.]+) of its float time for recognisers and ([\d.]+) to ([\d.]+)", said)
    bounds = {"rec": found[0][:2], "det": found[0][2:]}
    tiny = dict(zip(("rec", "det"), re.findall(r"but ([\d.]+) and ([\d.]+) for PP-OCRv6 tiny", said)[0], strict=True))
    table = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
    rows = [line.split("|") for line in table.splitlines() if re.match(r"\| PP-OCR\S+ \| onnxruntime \|", line)]
    rows = [row for row in rows if row[10:] and row[10].strip() in ("int8", "float")]
    assert len(rows) == 10
    for row in rows:
        name, ratio = row[1].strip(), float(row[7].strip(" ~"))
        low, high = (tiny[name[-3:]],) * 2 if "tiny" in name else bounds[name[-3:]]
        assert float(low) - 0.035 <= ratio <= float(high) + 0.035, name


def test_this_machine() -> None:
    facts = examine()
    assert facts["cpu"]["model"] == cpu_info().model
    assert facts["parts"]["onnxruntime"]["version"]
    assert facts["parts"]["openvino"]["version"]
    json.dumps(facts)


def test_what_is_missing_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_version", lambda name: None if name in ("torch", "openvino") else "1.2.3")
    facts = examine()
    lines = advice_lines(facts)
    assert "torch        not installed; pip install 'ocrslim[compress]'  [compress]" in lines
    assert "onnxruntime  1.2.3  [engine onnxruntime]" in lines
    assert facts["problems"] == ["openvino is missing: pip install openvino"]
    assert lines[-1] == "PROBLEM: openvino is missing: pip install openvino"


def test_the_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    folder = tmp_path / "not" / "there"
    monkeypatch.setenv("OCRSLIM_CACHE", str(folder))
    facts = examine()
    assert facts["cache"]["folder"] == str(folder)
    assert facts["cache"]["models"] == []
    assert facts["cache"]["free_gib"] > 0
    assert not folder.exists(), "looking makes nothing"
    (folder / "PP-OCRv4_mobile_rec").mkdir(parents=True)
    assert examine()["cache"]["models"] == ["PP-OCRv4_mobile_rec"]


def test_a_cache_that_is_a_file_and_a_full_disk(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    monkeypatch.setenv("OCRSLIM_CACHE", str(tmp_path / "file"))
    assert any("can't be written" in line for line in examine()["problems"])
    monkeypatch.setenv("OCRSLIM_CACHE", str(tmp_path))
    monkeypatch.setattr(doctor, "_free_gib", lambda _: 0.5)
    assert any("only 0.5 GiB are free" in line for line in examine()["problems"])


def test_the_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert {"ocrslim", "python", "system", "cpu", "parts", "cache", "int8", "problems"} == facts.keys()
    assert main(["doctor"]) == 0
    text = capsys.readouterr().out
    assert f"ocrslim {facts['ocrslim']}, Python {facts['python']}" in text
    assert "What to expect from int8 here:" in text
