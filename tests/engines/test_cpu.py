"""What the system says about the CPU, on systems that we have and some that we have not."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from ocrslim.engines import cpu
from ocrslim.engines.cpu import cpu_info, sums_without_saturation, versions

X86 = """processor\t: 0
model name\t: Intel(R) Xeon(R) Platinum 8488C
flags\t\t: fpu vme sse4_1 sse4_2 avx avx2 fma f16c avx512f avx512bw avx512vl avx512_vnni amx_tile amx_int8 amx_bf16

processor\t: 1
model name\t: another
flags\t\t: fpu
"""
ARM = """processor\t: 0
BogoMIPS\t: 243.75
Features\t: fp asimd evtstrm aes asimdhp cpuid asimddp i8mm bf16
CPU implementer\t: 0x41
"""


@pytest.fixture
def pretend(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """Yield a function that makes this a Linux machine with the given ``/proc/cpuinfo``."""

    def set_to(text: str) -> None:
        path = tmp_path / "cpuinfo"
        path.write_text(text, encoding="utf-8")
        monkeypatch.setattr(cpu, "CPUINFO", path)
        monkeypatch.setattr("sys.platform", "linux")
        cpu_info.cache_clear()

    yield set_to
    cpu_info.cache_clear()


def test_an_x86_server(pretend: Callable[[str], None]) -> None:
    pretend(X86)
    info = cpu_info()
    assert info.model == "Intel(R) Xeon(R) Platinum 8488C"  # the first processor's
    assert info.has_vnni
    assert "avx512_vnni" in info.flags
    assert "fpu" not in info.flags  # only what matters here
    assert info.flags.index("avx2") < info.flags.index("avx512f")  # in a stable order


def test_an_arm_board_without_a_model_name(pretend: Callable[[str], None]) -> None:
    pretend(ARM)
    info = cpu_info()
    assert info.flags == ("asimd", "asimdhp", "asimddp", "i8mm", "bf16")
    assert info.has_vnni
    assert info.model == platform.machine()


def test_nothing_known_is_not_guessed(pretend: Callable[[str], None]) -> None:
    pretend("garbage without colons\n")
    info = cpu_info()
    assert info.flags == ()
    assert not info.has_vnni
    assert info.model


def test_a_mac_is_asked_through_sysctl(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = {
        "machdep.cpu.brand_string": "Apple M2",
        "hw.optional.arm.AdvSIMD": "1",
        "hw.optional.arm.FEAT_DotProd": "1",
        "hw.optional.arm.FEAT_I8MM": "0",
    }
    monkeypatch.setattr(cpu, "_sysctl", lambda name: answers.get(name, ""))
    monkeypatch.setattr("sys.platform", "darwin")
    cpu_info.cache_clear()
    try:
        info = cpu_info()
    finally:
        cpu_info.cache_clear()
    assert (info.model, info.flags, info.has_vnni) == ("Apple M2", ("asimd", "asimddp"), True)


def test_this_machine() -> None:
    info = cpu_info()
    assert 1 <= info.cores <= (os.cpu_count() or 1)
    assert info.model.strip() == info.model != ""
    assert set(info.flags) <= set(cpu.RELEVANT)
    assert info.has_vnni == sums_without_saturation(info.flags)
    assert cpu_info() is info  # asked once


@pytest.mark.parametrize(
    ("flags", "safe"),
    [((), False), (("avx2",), False), (("avx512f", "avx512bw"), False), (("avx512_vnni",), True), (("asimd",), True)],
)
def test_which_cpus_saturate(flags: tuple[str, ...], safe: bool) -> None:
    assert sums_without_saturation(flags) is safe


def test_versions_are_those_of_what_runs() -> None:
    found = versions()
    assert found["python"] == platform.python_version()
    assert found["onnxruntime"] == onnxruntime.__version__
    assert found["numpy"] == np.__version__
    assert found["openvino"].count(".") == 2


def test_a_package_that_is_missing_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu, "PACKAGES", ("numpy", "no-such-package-anywhere"))
    assert set(versions()) == {"python", "numpy"}
