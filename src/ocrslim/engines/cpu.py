"""Which CPU this is and which engines are installed: a latency means nothing without them."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
import sys
from collections.abc import Collection
from dataclasses import dataclass
from functools import cache
from pathlib import Path

__all__ = ["CpuInfo", "cpu_info", "sums_without_saturation", "versions"]

CPUINFO = Path("/proc/cpuinfo")
# What decides the speed of float and int8 kernels, in the kernel's spelling, x86 and then ARM.
RELEVANT = (
    *("sse4_1", "sse4_2", "avx", "avx2", "fma", "f16c", "avx512f", "avx512bw", "avx512vl"),
    *("avx512_vnni", "avx_vnni", "avx_vnni_int8", "avx512_bf16", "avx512_fp16", "amx_tile", "amx_int8", "amx_bf16"),
    *("asimd", "asimdhp", "asimddp", "i8mm", "sve", "sve2", "bf16"),
)
# Instructions that add four products of 8-bit values straight into 32 bits.
EXACT_SUMS = frozenset({"avx512_vnni", "avx_vnni", "avx_vnni_int8", "amx_int8", "asimddp", "i8mm"})
ARM = frozenset({"asimd"})  # every 64-bit ARM: its kernels widen products of 8-bit values to 32 bits in any case
APPLE = {
    **{"arm.FEAT_DotProd": "asimddp", "arm.FEAT_I8MM": "i8mm", "arm.FEAT_BF16": "bf16", "arm.FEAT_FP16": "asimdhp"},
    **{"arm.AdvSIMD": "asimd", "avx2_0": "avx2", "avx512f": "avx512f"},
}
PACKAGES = ("onnxruntime", "openvino", "paddlepaddle", "onnx", "numpy", "torch")


@dataclass(frozen=True)
class CpuInfo:
    """The processor.

    Args:
        model: its name.
        cores: that this process may use.
        flags: its instruction sets that matter here, in the spelling of Linux's ``/proc/cpuinfo``.
        has_vnni: sums of ``u8 * s8`` products are exact; see :func:`sums_without_saturation`.
    """

    model: str
    cores: int
    flags: tuple[str, ...]
    has_vnni: bool


def sums_without_saturation(flags: Collection[str]) -> bool:
    """Say whether 8-bit weights are safe on a CPU with these flags.

    AVX2 and AVX-512 without VNNI add pairs of ``u8 * s8`` products in 16 bits with saturation (``pmaddubsw``):
    2 * 255 * 127 does not fit, 2 * 255 * 64 does, so weights have to keep to 7 bits there.

    >>> sums_without_saturation(["avx2", "fma"]), sums_without_saturation(["avx2", "avx_vnni"])
    (False, True)
    """
    return not (EXACT_SUMS | ARM).isdisjoint(flags)


@cache
def cpu_info() -> CpuInfo:
    """Return what the system says about its processor; what it does not say is left out, not guessed."""
    if sys.platform == "linux":
        model, flags = _from_cpuinfo(CPUINFO.read_text(encoding="utf-8", errors="replace"))
    elif sys.platform == "darwin":
        model, flags = _from_sysctl()
    else:
        model, flags = platform.processor(), frozenset()
    kept = tuple(flag for flag in RELEVANT if flag in flags)
    return CpuInfo(model or platform.machine() or "unknown", _cores(), kept, sums_without_saturation(kept))


def versions() -> dict[str, str]:
    """Return the versions of Python and of the installed packages that figures depend on, without importing them."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _from_cpuinfo(text: str) -> tuple[str, frozenset[str]]:
    """Read the first processor of ``/proc/cpuinfo``; ARM calls its flags features and has no model name."""
    fields: dict[str, str] = {}
    for line in text.splitlines():
        key, colon, value = line.partition(":")
        if colon:
            fields.setdefault(key.strip(), value.strip())
    flags = fields.get("flags") or fields.get("Features") or ""
    return fields.get("model name", ""), frozenset(flags.split())


def _from_sysctl() -> tuple[str, frozenset[str]]:
    """Ask macOS for the brand name and the optional instruction sets."""
    flags = {flag for feature, flag in APPLE.items() if _sysctl(f"hw.optional.{feature}") == "1"}
    return _sysctl("machdep.cpu.brand_string"), frozenset(flags)


def _sysctl(name: str) -> str:
    answer = subprocess.run(["sysctl", "-n", name], capture_output=True, text=True, check=False)
    return answer.stdout.strip()


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
