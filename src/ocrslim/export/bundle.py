"""Folders that other people's software loads as they are: what they have in common.

A folder holds the model, pre- and post-processing, the dictionary, a README of three lines of code that shows how to
load it, and the model card.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx_ir as ir
import yaml

from ocrslim.atomic import replacing, write_bytes
from ocrslim.errors import InputError, ModelError
from ocrslim.export.verify import Verification
from ocrslim.graph.importers.onnx import load_onnx
from ocrslim.graph.importers.source import ModelSource, open_model

__all__ = [
    "CARD",
    "README",
    "RESULT",
    "SIDECARS",
    "Deployable",
    "Exported",
    "is_bundle",
    "is_quantized",
    "open_deployable",
    "require_open_shape",
    "require_target",
    "write_model",
    "write_readme",
    "write_sidecars",
    "write_yml",
]

CARD = "MODEL_CARD.md"
README = "README.md"
KIND = ": a folder for "  # ends the title in the first line of a bundle's README, before who loads it
RESULT = "result.json"
OF_THE_RUN = (
    "The files named above, their hashes and sizes are those of the run. This folder was made from them: the same"
    " weights, in another file."
)
SIDECARS = ("inference.yml", "dictionary.txt")


@dataclass(frozen=True)
class Exported:
    """What an export wrote.

    Args:
        files: in the order of their writing.
        verification: the comparison with ``model.onnx`` where the result could be run here.
        notes: sentences that a user should read, one each.
    """

    files: tuple[Path, ...]
    verification: Verification | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Deployable:
    """A model that is to be put into a folder.

    Args:
        source: the file and what is known about it.
        model: its graph.
        name: of the model that it was made from, the official one where that is known.
        target: that it was compressed for; ``None`` of a float model.
        card: its model card; ``None`` without one.
        made: what it is beside that, ``pruned`` or ``rewritten``; an int8 model may be of a pruned one.
    """

    source: ModelSource
    model: ir.Model
    name: str
    target: str | None
    card: Path | None
    made: str = ""

    @property
    def title(self) -> str:
        """What it is, in a few words."""
        if self.target:
            return f"{self.name}{', pruned' if self.made == 'pruned' else ''}, int8 for {self.target}"
        return f"{self.name}, float" + (f", {self.made}" if self.made in ("pruned", "rewritten") else "")


def open_deployable(spec: str | Path) -> Deployable:
    """Read a model, and what it was compressed for.

    Args:
        spec: a folder that ``ocrslim compress`` or ``prune`` wrote, or a float model however it is named.

    Raises:
        ModelError: there is no such model, or ``result.json`` is not what these commands write.
        InputError: the model is quantized, and nothing says for which engine.
    """
    source = open_model(spec)
    model = load_onnx(source.path)
    folder = source.path.parent
    result = folder / RESULT
    quantized = is_quantized(model)
    if not result.is_file():
        if quantized:
            raise InputError(
                f"{source.path}: is quantized, and there is no {RESULT} beside it that says for which engine; name the"
                " folder that `ocrslim compress` wrote"
            )
        return Deployable(source, model, source.name, None, None)
    name, target, made = _read_result(result)
    card = folder / CARD
    return Deployable(source, model, name, target if quantized else None, card if card.is_file() else None, made)


def is_quantized(model: ir.Model) -> bool:
    """Tell whether a graph holds int8."""
    return any(node.op_type == "DequantizeLinear" for node in model.graph)


def require_target(deployable: Deployable, allowed: Collection[str], who: str) -> None:
    """Refuse a model that was quantized for another engine than the one that will run it.

    A model that is right on one engine can read garbage on another, and no figure of its result holds there.

    Args:
        deployable: a float one passes.
        allowed: names of targets.
        who: will run it.

    Raises:
        InputError: it was quantized for another.
    """
    if deployable.target is None or deployable.target in allowed:
        return
    wanted = " or ".join(f"--target {name}" for name in allowed)
    raise InputError(
        f"{deployable.source.path.parent}: was compressed for {deployable.target}; {who} runs it in"
        f" {' or '.join(allowed)}, where its figures do not hold and it may read garbage: compress again with {wanted}"
    )


def require_open_shape(deployable: Deployable, who: str) -> None:
    """Refuse a model that takes images of one size alone, where others will be given to it.

    Args:
        deployable: as it was opened.
        who: will run it.

    Raises:
        InputError: height or width are fixed; a recogniser's height is, by its kind.
    """
    shape = deployable.model.graph.inputs[0].shape
    sides = [] if shape is None else list(shape)[3 if deployable.source.task == "rec" else 2 :]
    if any(isinstance(side, int) for side in sides):
        raise InputError(
            f"{deployable.source.path.parent}: takes images of one size alone ({'x'.join(map(str, sides))}), and {who}"
            " gives it others: make it without --shape"
        )


def write_model(deployable: Deployable, path: Path) -> Path:
    """Write the ONNX file, with the dictionary in its metadata, where RapidOCR looks for it.

    Raises:
        ModelError: an entry of the dictionary holds a line separator: RapidOCR would split it in two.
    """
    model = deployable.model
    characters = deployable.source.characters
    if characters is not None:
        text = "\n".join(characters)
        if tuple(text.splitlines()) != characters:
            bad = next((entry for entry in characters if entry.splitlines() != [entry]), "")
            raise ModelError(
                f"{deployable.source.path}: the dictionary's entry {bad!r} is empty or separates lines, and whoever"
                " reads the dictionary from the model would count its entries wrong; use the ONNX file as it is"
            )
        model = model.clone()
        model.metadata_props["character"] = text
    with replacing(path) as partial:
        ir.save(model, partial)
    return path


def write_sidecars(
    folder: Path, inference_yml: Mapping[str, Any] | None, characters: Sequence[str] | None
) -> list[Path]:
    """Write ``inference.yml`` and, for recognisers, ``dictionary.txt`` into ``folder``.

    Args:
        folder: exists.
        inference_yml: as the model came with; ``None`` writes none.
        characters: the dictionary without blank and space, one entry a line; ``None`` writes none.

    Returns:
        list: the files written.
    """
    written = []
    if inference_yml is not None:
        written.append(write_yml(folder / "inference.yml", inference_yml))
    if characters is not None:
        path = folder / "dictionary.txt"
        write_bytes(path, "".join(f"{entry}\n" for entry in characters).encode())
        written.append(path)
    return written


def write_yml(path: Path, config: Mapping[str, Any]) -> Path:
    """Write a YAML file that keeps the order of its keys."""
    dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)  # the Python one takes seconds for 18,000 characters
    write_bytes(path, yaml.dump(dict(config), Dumper=dumper, allow_unicode=True, sort_keys=False).encode())
    return path


def write_readme(
    folder: Path, deployable: Deployable, who: str, code: Sequence[str], notes: Sequence[str]
) -> list[Path]:
    """Write ``README.md``: lines of code that load the folder, then what has to be known; and copy the model card.

    Args:
        folder: exists.
        deployable: the model.
        who: loads it.
        code: lines of Python.
        notes: sentences.
    """
    lines = [f"# {deployable.title}{KIND}{who}", "", "```python", *code, "```", "", *notes]
    if deployable.card is not None:
        lines.append(f"What was lost and gained, measured where: `{CARD}`, of the run that this folder was made from.")
    path = folder / README
    write_bytes(path, ("\n".join(lines) + "\n").encode())
    if deployable.card is None:
        return [path]
    card = folder / CARD
    if card.resolve() != deployable.card.resolve():
        text = deployable.card.read_text(encoding="utf-8")
        write_bytes(card, f"{text.rstrip()}\n\n{OF_THE_RUN}\n".encode())
    return [path, card]


def is_bundle(readme: Path, like: Path) -> bool:
    """Tell whether a README is one that :func:`write_readme` wrote for the same reader as another.

    Args:
        readme: may be missing, or anybody's.
        like: of a bundle.
    """
    try:
        with readme.open(encoding="utf-8") as first, like.open(encoding="utf-8") as second:
            lines = [file.readline().rstrip("\n").rpartition(KIND) for file in (first, second)]
    except (OSError, UnicodeDecodeError):
        return False
    return all(line[0].startswith("# ") for line in lines) and lines[0][2] == lines[1][2]


def _read_result(path: Path) -> tuple[str, str, str]:
    """Return the model's name, its target and what was delivered."""
    try:
        result = json.loads(path.read_text(encoding="utf-8"))
        made = "pruned" if result.get("settings", {}).get("reference") else str(result.get("delivered", ""))
        return str(result["model"]["name"]), str(result["target"]), made
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(
            f"{path}: is not what `ocrslim` writes (it names no model and target); give the command again that made it"
        ) from error
