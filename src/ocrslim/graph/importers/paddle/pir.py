"""Paddle 3's intermediate representation (PIR) as ``inference.json`` holds it, into a :class:`Network`.

The file is ``{"base_code": {"magic": "pir", "version": n}, "program": {"regions": [{"blocks": [{"ops": [...]}]}]}}``.
An operation is ``{"#": "1.conv2d", "I": [{"%": id}], "O": [{"%": id, "TT": type}], "A": [{"N": name, "AT": value}]}``,
the number before its name being a dialect: 0 builtin, 1 Paddle's operators. Ids number the values, 0 is none. A type is
``{"#": "0.t_dtensor", "D": [element, sizes, layout, ...]}`` or a list of them, an attribute's value ``{"#": kind, "D":
value}``. A parameter is ``{"#": "p", "A": [..., name], "O": {...}}``. Versions 1 (Paddle 3.0), 3 (3.2) and 4 (3.3)
differ in nothing that is read here but in the kinds of numbers.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from ocrslim.errors import ModelError
from ocrslim.graph.importers.paddle.network import Array, Network, Operation, Variable
from ocrslim.graph.importers.paddle.pir_operators import OPERATORS, Counterpart, Slot

__all__ = ["VERSIONS", "parameter_names", "read_pir", "read_pir_file"]

VERSIONS = (1, 2, 3, 4)
"""Of the format; 2 lay between two releases."""

_DIALECTS = {"0": "builtin", "1": "pd_op", "2": "cf", "3": "custom_op", "4": "dist"}
_ELEMENTS: dict[str, np.dtype[Any]] = {
    "bool": np.dtype(np.bool_),
    "f16": np.dtype(np.float16),
    "f32": np.dtype(np.float32),
    "f64": np.dtype(np.float64),
    "bf16": np.dtype(ml_dtypes.bfloat16),
    "i8": np.dtype(np.int8),
    "i16": np.dtype(np.int16),
    "i32": np.dtype(np.int32),
    "i64": np.dtype(np.int64),
    "ui8": np.dtype(np.uint8),
}
_INPUTS = ("data", "feed")
MAX_PROGRAM = 64 << 20  # bytes; the largest known has one million
Json = Any


def read_pir_file(path: str | Path) -> list[Json]:
    """Return the operations of an ``inference.json``.

    Raises:
        ModelError: there is no such file, it is no PIR program, of another version, or with control flow.
    """
    path = Path(path)
    again = "export the model again with paddle.jit.save"
    try:
        if path.stat().st_size > MAX_PROGRAM:
            raise ModelError(f"{path}: larger than {MAX_PROGRAM >> 20} MiB; that is no program of a PP-OCR model")
        content = json.loads(path.read_bytes())
        base = content["base_code"]
        version = int(base["version"])
        if base["magic"] != "pir":
            raise ValueError(base["magic"])
        regions = content["program"]["regions"]
        blocks = regions[0]["blocks"]
        operations = list(blocks[0]["ops"])
    except OSError as error:
        raise ModelError(f"{path}: can't be read ({error.strerror}); a Paddle model is two files, give both") from error
    except (ValueError, LookupError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise ModelError(
            f"{path}: expected a PIR program of Paddle 3 (base_code, program), found none; {again}"
        ) from error
    if version not in VERSIONS:
        known = ", ".join(map(str, VERSIONS))
        raise ModelError(f"{path}: PIR format version {version}, known are {known}; export it with Paddle 3.0 to 3.3")
    if not all(isinstance(operation, dict) for operation in operations):
        raise ModelError(f"{path}: expected a PIR program of Paddle 3, found operations of another form; {again}")
    if len(regions) != 1 or len(blocks) != 1 or any(operation.get("regions") for operation in operations):
        raise ModelError(f"{path}: has control flow (if, while), which can't be converted; export the model without")
    return operations


def parameter_names(operations: Iterable[Json]) -> list[str]:
    """Return the names of the parameters that are saved: all but the states that Paddle marks as not persistable."""
    saved = []
    for operation in operations:
        if _name(operation) == "builtin.parameter":
            marks = operation.get("OA") or [1]  # persistable, stop_gradient, trainable
            if isinstance(marks[0], dict) or marks[0]:
                saved.append(_parameter(operation))
    return saved


def read_pir(path: Path, operations: Sequence[Json], parameters: Mapping[str, Array]) -> Network:
    """Tell a PIR program as a network.

    A value has no name in PIR: here it is ``operator_id``, and what is fetched has the name that it is fetched by.

    Args:
        path: of the file, for messages.
        operations: of :func:`read_pir_file`.
        parameters: arrays by name.

    Raises:
        ModelError: the program has neither input nor output, an operation is not as it should be, or is of a kind that
            has no classic counterpart; the text names it.
    """
    reader = _Reader(parameters)
    for operation in operations:
        try:
            reader.read(operation)
        except (LookupError, TypeError, AttributeError, ValueError, OverflowError, RecursionError) as error:
            said = f"{type(error).__name__} {error}"
            raise ModelError(f"{path}: operation {str(operation)[:80]} is not as expected ({said})") from error
    if not reader.inputs or not reader.outputs:
        raise ModelError(f"{path}: has no input or no output; export the model with paddle.jit.save")
    return Network(
        path, tuple(reader.inputs), tuple(reader.outputs), tuple(reader.operations), reader.variables, parameters
    )


class _Reader:
    """What is known while the operations are read one after the other."""

    def __init__(self, parameters: Mapping[str, Array]) -> None:
        self.parameters = parameters
        self.inputs: list[str] = []
        self.outputs: list[str] = []
        self.operations: list[Operation] = []
        self.variables: dict[str, Variable] = {}
        self._names: dict[int, tuple[str, ...]] = {0: ()}  # of a value; several for a list of tensors
        self._lists: set[int] = set()
        self._constants: dict[int, Any] = {}

    def read(self, operation: Json) -> None:
        """Take in one operation."""
        name = _name(operation)
        dialect, _, kind = name.partition(".")
        if name == "builtin.parameter":
            self._names[operation["O"]["%"]] = (_parameter(operation),)
        elif name == "builtin.combine":
            out = operation["O"][0]["%"]
            self._names[out] = tuple(part for value in operation["I"] for part in self._names[value["%"]])
            self._lists.add(out)
        elif name in ("builtin.split", "builtin.slice"):
            self._take(operation, kind)
        elif dialect == "pd_op" and kind in _INPUTS:
            fed = str(_attributes(operation)["name"])
            self._define(operation["O"][0], fed)
            self.inputs.append(fed)
        elif name == "pd_op.fetch":
            self._fetch(operation)
        else:
            self._compute(operation, dialect, kind)

    def _take(self, operation: Json, kind: str) -> None:
        """``builtin.split`` names the parts of a list, ``builtin.slice`` one of them."""
        parts = self._names[operation["I"][0]["%"]]
        if kind == "slice":
            parts = (parts[_attributes(operation)["index"]],)
        for out, part in zip(operation["O"], parts, strict=True):
            self._names[out["%"]] = (part,)

    def _fetch(self, operation: Json) -> None:
        fetched = str(_attributes(operation)["name"])
        source = self._names[operation["I"][0]["%"]]
        self.variables[fetched] = self.variables.get(source[0], Variable(None, None))
        self.operations.append(Operation("assign", {"X": source}, {"Out": (fetched,)}, {}, "pd_op.fetch"))
        self.outputs.append(fetched)

    def _compute(self, operation: Json, dialect: str, kind: str) -> None:
        """Any operation that computes something."""
        said = f"{dialect}.{kind}"
        counterpart = OPERATORS.get(kind.removesuffix("_")) if dialect == "pd_op" else None
        counterpart = counterpart or Counterpart(said, ())
        attributes = {counterpart.renamed.get(key, key): value for key, value in _attributes(operation).items()}
        inputs: dict[str, tuple[str, ...]] = {}
        for slot, value in zip(counterpart.slots, operation.get("I", ()), strict=False):
            self._place(slot, value["%"], inputs, attributes)
        out = operation["O"][0]
        names = self._define(out, f"{kind}_{out['%']}")
        if kind in ("full", "full_int_array"):
            self._constants[out["%"]] = attributes["value"]
        outputs = {counterpart.output: names}
        self.operations.append(Operation(counterpart.type, inputs, outputs, attributes, said))

    def _place(self, slot: Slot, value: int, inputs: dict[str, tuple[str, ...]], attributes: dict[str, Any]) -> None:
        """Put an input into its slot or, where it is a constant, into its attribute."""
        names = self._names[value]
        if not names:
            return
        if slot.attribute and value in self._constants:
            attributes[slot.attribute] = self._constants[value]
        elif slot.several and value in self._lists:
            inputs[slot.several] = names
        elif slot.name:
            inputs[slot.name] = names

    def _define(self, out: Json, name: str) -> tuple[str, ...]:
        """Give a new value its name, or a list of values theirs, and note their types."""
        types = _types(out.get("TT"))
        several = isinstance(types, list)
        names = tuple(f"{name}.{index}" for index in range(len(types))) if several else (name,)
        if several:
            self._lists.add(out["%"])
        self._names[out["%"]] = names
        self.variables |= dict(zip(names, types if several else [types], strict=True))
        return names


def _name(operation: Json) -> str:
    """Return ``dialect.operator`` in words."""
    short = str(operation["#"])
    if short == "p":
        return "builtin.parameter"
    dialect, _, kind = short.partition(".")
    return f"{_DIALECTS.get(dialect, dialect)}.{kind}"


def _parameter(operation: Json) -> str:
    """Return the name of a parameter: the last of its bare attributes, or the one that is called so."""
    bare = operation["A"]
    return str(bare[-1]) if not isinstance(bare[-1], dict) else str(_attributes(operation)["parameter_name"])


def _attributes(operation: Json) -> dict[str, Any]:
    return dict(_named(operation.get("A", ())))


def _named(entries: Iterable[Json]) -> Iterator[tuple[str, Any]]:
    for entry in entries:
        yield entry["N"], _value(entry["AT"])


def _value(attribute: Json) -> Any:
    """Return an attribute as a plain Python value, an element type as a numpy dtype (``None`` if undefined)."""
    kind = str(attribute["#"]).rpartition(".")[2]
    if "VD" in attribute:  # what JSON can't say: NaN, inf, -inf
        return float(attribute["VD"])
    data = attribute.get("D")
    if kind == "a_array":
        return [_value(item) for item in data]
    if kind == "a_dtype":
        return np.dtype(ml_dtypes.bfloat16) if data == "bfloat16" else _dtype(data)
    return data


def _dtype(name: str) -> np.dtype[Any] | None:
    try:
        return np.dtype(name)
    except TypeError:
        return None


def _types(type_: Json) -> Any:
    """Return a :class:`Variable`, or a list of them for a list of tensors."""
    kind = str((type_ or {}).get("#", "")).rpartition(".")[2]
    if kind == "t_vec":
        return [_types(item) for item in type_["D"]]
    if kind != "t_dtensor":
        return Variable(None, None)
    element, sizes = type_["D"][:2]
    return Variable(tuple(int(size) for size in sizes), _ELEMENTS.get(str(element["#"]).rpartition(".")[2][2:]))
