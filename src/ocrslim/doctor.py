"""``ocrslim doctor``: this CPU, what is installed, and what int8 can be expected to bring here.

What it says of speed are the figures measured on ten PP-OCR models on two cores of an AVX2 CPU without VNNI and of one
with it; of other CPUs it says what their instructions allow, and that a measurement decides.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ocrslim import __version__
from ocrslim.engines.cpu import CpuInfo, cpu_info, versions
from ocrslim.graph.importers.zoo import MODELS, cache_folder, model_folder

__all__ = ["advice_lines", "examine", "int8_here"]

# What can be there: package -> (what for, how to get it).
PARTS = {
    "onnxruntime": ("engine onnxruntime", "pip install onnxruntime"),
    "openvino": ("engine openvino", "pip install openvino"),
    "paddlepaddle": ("engine paddle", "pip install 'ocrslim[paddle]'"),
    "torch": ("compress", "pip install 'ocrslim[compress]'"),
    "paddleocr": ("loads folders of export --to paddleocr", "pip install paddleocr"),
    "rapidocr": ("loads folders of export --to rapidocr", "pip install rapidocr"),
    "tensorrt": ("builds folders of export --to tensorrt, on an NVIDIA GPU", "pip install tensorrt"),
}
NEEDED = ("onnxruntime", "openvino")
ARM_PRODUCTS = frozenset({"asimddp", "i8mm"})
DOT_PRODUCTS = frozenset({"avx512_vnni", "avx_vnni", "avx_vnni_int8", "amx_int8"}) | ARM_PRODUCTS
LEAST_FREE = 2.0  # GiB for models, checkpoints and results

EIGHT_BITS = "Weights have 8 bits here: this CPU adds products of 8-bit values in 32 bits."
SEVEN_BITS = (
    "Weights have 7 bits here: this CPU adds pairs of products in 16 bits, which 8-bit weights saturate. A model that"
    " was made on a CPU with VNNI may read garbage on this one; one made here is right on both."
)
MEASURED = (
    "Measured on two cores of an AVX2 CPU without VNNI: OpenVINO int8 took 0.72 to 0.78 of OpenVINO float's time; ONNX"
    " Runtime 0.67 to 0.80 of its float time for recognisers, 0.9 to 1.1 for detectors, which gain little or nothing."
)
MEASURED_VNNI = (
    "Measured on two cores of an AMD EPYC with VNNI: OpenVINO int8 took 0.5 to 0.75 of OpenVINO float's time; ONNX"
    " Runtime 0.5 to 0.65 of its float time for recognisers and 0.6 to 0.85 for detectors, but 0.75 and 0.95 for"
    " PP-OCRv6 tiny, which has little to gain."
)


def examine() -> dict[str, Any]:
    """Look at this machine.

    Returns:
        dict: ``ocrslim``, ``python`` and ``system``; ``cpu``: ``model``, ``cores``, ``flags``, ``vnni``, ``isa``; for
            each of ``parts``: ``version`` (``None`` where it is missing), ``what_for``, ``install``; ``cache``:
            ``folder``, ``models`` in it, ``free_gib``; ``int8``: sentences; ``problems``: what keeps it from working.
    """
    cpu = cpu_info()
    parts = {
        name: {"version": _version(name), "what_for": what_for, "install": install}
        for name, (what_for, install) in PARTS.items()
    }
    cache = cache_folder()
    free = _free_gib(cache)
    return {
        "ocrslim": __version__,
        "python": versions()["python"],
        "system": f"{platform.system()} {platform.machine()}",
        "cpu": {
            "model": cpu.model,
            "cores": cpu.cores,
            "flags": list(cpu.flags),
            "vnni": cpu.has_vnni,
            "isa": _isa(cpu),
        },
        "parts": parts,
        "cache": {
            "folder": str(cache),
            "models": sorted(name for name in MODELS if model_folder(name).is_dir()),
            "free_gib": free,
        },
        "int8": list(int8_here(cpu)),
        "problems": _problems(parts, cache, free),
    }


def int8_here(cpu: CpuInfo) -> tuple[str, ...]:
    """Say what int8 models can be expected to do on a CPU, one sentence or two in each line.

    >>> int8_here(CpuInfo("x", 2, ("avx2", "avx_vnni"), True))[0]
    'Weights have 8 bits here: this CPU adds products of 8-bit values in 32 bits.'
    """
    measure = "`ocrslim bench FLOAT INT8` says what holds on this machine."
    if cpu.has_vnni and not DOT_PRODUCTS.isdisjoint(cpu.flags):
        four = "One instruction multiplies and adds four of them, so that more is to be gained than on a CPU without"
        if ARM_PRODUCTS.isdisjoint(cpu.flags):
            return (EIGHT_BITS, f"{four}.", MEASURED_VNNI, measure)
        return (EIGHT_BITS, f"{four}; how much was not measured on ARM.", measure)
    if cpu.has_vnni:
        return (EIGHT_BITS, "Without dot products of 8-bit values int8 saves size here, hardly time.", measure)
    if "avx2" in cpu.flags or "avx512f" in cpu.flags:
        return (SEVEN_BITS, MEASURED, "Take OpenVINO if you may choose the engine.", measure)
    return (
        SEVEN_BITS,
        "Without AVX2 the engines' int8 kernels are slow: int8 saves size here, hardly time.",
        measure,
    )


def advice_lines(facts: Mapping[str, Any]) -> list[str]:
    """Return what :func:`examine` found as lines of text."""
    cpu, cache = facts["cpu"], facts["cache"]
    lines = [
        f"ocrslim {facts['ocrslim']}, Python {facts['python']}, {facts['system']}",
        f"CPU: {cpu['model']}, {cpu['cores']} core{'s' if cpu['cores'] != 1 else ''}, {cpu['isa']}"
        f" ({' '.join(cpu['flags']) or 'no flags known'})",
        "",
    ]
    for name, part in facts["parts"].items():
        have = part["version"] or f"not installed; {part['install']}"
        lines.append(f"{name:13}{have}  [{part['what_for']}]")
    free = "" if cache["free_gib"] is None else f", {cache['free_gib']:.1f} GiB free"
    lines += ["", f"Models: {len(cache['models'])} of {len(MODELS)} in {cache['folder']}{free}", ""]
    lines += ["What to expect from int8 here:", *(f"  {line}" for line in facts["int8"])]
    if facts["problems"]:
        lines += ["", *(f"PROBLEM: {line}" for line in facts["problems"])]
    return lines


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _isa(cpu: CpuInfo) -> str:
    """Name the widest instructions, and whether 8-bit sums are exact."""
    flags = set(cpu.flags)
    if "asimd" in flags:
        return "ARM with 8-bit dot products" if flags & ARM_PRODUCTS else "ARM without 8-bit dot products"
    width = "AVX-512" if "avx512f" in flags else "AVX2" if "avx2" in flags else "no AVX2"
    amx = " and AMX" if "amx_int8" in flags else ""
    return f"{width}{amx}, {'VNNI' if cpu.has_vnni else 'no VNNI'}"


def _free_gib(folder: Path) -> float | None:
    """Return the free space where a folder is or would be made."""
    for place in (folder, *folder.parents):
        if place.is_dir():
            return shutil.disk_usage(place).free / 2**30
    return None


def _problems(parts: Mapping[str, Mapping[str, Any]], cache: Path, free: float | None) -> list[str]:
    found = [f"{name} is missing: {parts[name]['install']}" for name in NEEDED if parts[name]["version"] is None]
    if free is not None and free < LEAST_FREE:
        found.append(f"only {free:.1f} GiB are free at {cache}; set OCRSLIM_CACHE to a folder with more room")
    place = next((place for place in (cache, *cache.parents) if place.exists()), cache)
    if not os.access(place, os.W_OK) or not place.is_dir():
        found.append(f"{place} can't be written, so that no model can be fetched; set OCRSLIM_CACHE to another folder")
    return found
