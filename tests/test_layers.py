"""The architecture as tests: who may import whom, how large a file may grow, what no line may do.

Imports inside functions and under ``TYPE_CHECKING`` count as well: a dependency is a dependency.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[1]
SOURCE = PROJECT / "src"
FILES = sorted((SOURCE / "ocrslim").rglob("*.py"))

RECIPES = {
    "arguments",
    "cli",
    "cli_eval",
    "choosing",
    "__main__",
    "completion",
    "compress",
    "delivery",
    "end_to_end",
    "doctor",
    "evaluate",
    "example",
    "following",
    "ladder",
    "learning",
    "scene",
    "outcome",
    "placing",
    "predict",
    "pruned",
    "lossless",
    "made_for",
    "reader",
    "reference",
    "relearning",
    "scoring",
    "searching",
    "sensitivity",
    "streams",
    "teaching",
    "together",
}
UPPER = {"report", "export", "slimming"}
MIDDLE = {"graph", "ocr", "engines"}
GROUND = {"config", "spec", "errors", "atomic", "lock", "__init__"}
# What a room may import beside itself. Rooms of the middle do not know each other.
MAY_IMPORT = {
    **dict.fromkeys(RECIPES, RECIPES | UPPER | MIDDLE | GROUND),
    "report": MIDDLE | GROUND,
    "export": {"slimming"} | MIDDLE | GROUND,  # it writes what slimming learned
    "slimming": MIDDLE | GROUND,
    **dict.fromkeys(MIDDLE, GROUND),
    **dict.fromkeys(GROUND, GROUND),
    "__init__": {"reader"} | GROUND,  # ocrslim.load, imported when it is called
}
# Within slimming: (who, may not import).
APART = [
    ("ocrslim.slimming.training", ("ocrslim.slimming.quantization", "ocrslim.slimming.pruning", "ocrslim.graph")),
    ("ocrslim.slimming.quantization", ("ocrslim.slimming.training", "ocrslim.slimming.pruning")),
    ("ocrslim.slimming.pruning", ("ocrslim.slimming.training", "ocrslim.slimming.quantization")),
    ("ocrslim.graph.importers", ("ocrslim.graph.executor",)),
    ("ocrslim.graph.passes", ("ocrslim.graph.executor",)),
]
# The base install has no torch: scoring, timing and inspecting need none.
TORCH_FREE = (
    *("ocrslim.ocr", "ocrslim.engines", "ocrslim.report", "ocrslim.evaluate", "ocrslim.predict", "ocrslim.config"),
    *("ocrslim.atomic", "ocrslim.reader", "ocrslim.reference", "ocrslim.streams", "ocrslim.end_to_end"),
    "ocrslim.made_for",
    *("ocrslim.spec", "ocrslim.errors", "ocrslim.graph.importers", "ocrslim.graph.passes", "ocrslim.graph.inspect"),
    *("ocrslim.arguments", "ocrslim.cli", "ocrslim.example", "ocrslim.slimming.training.loader"),
    "ocrslim.slimming.training.prefetch",
    "ocrslim.slimming.training.labelled_loader",
    *("ocrslim.doctor", "ocrslim.completion", "ocrslim.export.deploy", "ocrslim.export.bundle"),
    *(f"ocrslim.export.{name}" for name in ("openvino", "paddleocr", "rapidocr", "tensorrt")),
)
GROUND_LIBRARIES = {"numpy", "yaml"}
MAX_FILE, MAX_FUNCTION = 400, 80
LINES_PER_SUPPRESSION = 500
TESTS_PER_SOURCE = 1.0


def module_of(path: Path) -> str:
    """Return a file's dotted name: ``src/ocrslim/graph/__init__.py`` is ``ocrslim.graph``."""
    parts = path.relative_to(SOURCE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def room_of(module: str) -> str:
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else "__init__"


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


MODULES = {module_of(path): path for path in FILES}
every_file = pytest.mark.parametrize("path", FILES, ids=map(module_of, FILES))


def imports(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Yield (line, dotted name) of each import; ``from a.b import c`` is ``a.b.c`` where that is a module of ours."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: a relative import; write the module's full name"
            assert node.module
            for alias in node.names:
                longer = f"{node.module}.{alias.name}"
                yield node.lineno, longer if longer in MODULES else node.module


def is_in(module: str, *packages: str) -> bool:
    return any(module == package or module.startswith(package + ".") for package in packages)


def test_every_room_has_a_place_in_the_plan() -> None:
    assert {room_of(module) for module in MODULES} <= MAY_IMPORT.keys()


@every_file
def test_imports_go_down(path: Path) -> None:
    room = room_of(module_of(path))
    wrong = [
        f"line {line}: {name}"
        for line, name in imports(tree_of(path))
        if is_in(name, "ocrslim") and room_of(name) not in MAY_IMPORT[room] | {room}
    ]
    assert not wrong, f"{room} may import {sorted(MAY_IMPORT[room])}"


@pytest.mark.parametrize(("who", "forbidden"), APART)
def test_neighbours_stay_apart(who: str, forbidden: tuple[str, ...]) -> None:
    wrong = [
        f"{module}:{line} imports {name}"
        for module, path in MODULES.items()
        if is_in(module, who)
        for line, name in imports(tree_of(path))
        if is_in(name, *forbidden)
    ]
    assert not wrong


@every_file
def test_no_torch_where_the_base_install_goes(path: Path) -> None:
    if is_in(module_of(path), *TORCH_FREE):
        assert not [line for line, name in imports(tree_of(path)) if is_in(name, "torch", "safetensors")]


def test_what_needs_no_torch_runs_without_it() -> None:
    # Also what is imported indirectly: a fresh interpreter, in which torch cannot be found.
    modules = [module for module in MODULES if is_in(module, *TORCH_FREE)]
    code = (
        "import importlib, sys\n"
        "for name in ('torch', 'safetensors'): sys.modules[name] = None\n"
        f"for name in {modules!r}: importlib.import_module(name)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]


def test_the_command_line_starts_light() -> None:
    code = (
        "import sys, ocrslim.cli; print(sorted({'torch', 'onnxruntime', 'openvino', 'cv2', 'onnx'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@every_file
def test_the_ground_is_light(path: Path) -> None:
    if room_of(module_of(path)) in GROUND:
        roots = {name.split(".")[0] for _, name in imports(tree_of(path))}
        assert roots <= GROUND_LIBRARIES | set(sys.stdlib_module_names) | {"ocrslim"}


def test_modules_import_each_other_in_no_circle() -> None:
    # Only imports at the top of a module can lock each other out.
    edges = {
        module: {
            name
            for statement in tree_of(path).body
            if isinstance(statement, (ast.Import, ast.ImportFrom))
            for _, name in imports(statement)
            if name in MODULES and name != module
        }
        for module, path in MODULES.items()
    }
    done: set[str] = set()

    def visit(module: str, trail: tuple[str, ...]) -> None:
        assert module not in trail, " -> ".join((*trail, module))
        if module not in done:
            for name in edges[module]:
                visit(name, (*trail, module))
            done.add(module)

    for module in edges:
        visit(module, ())
    assert done == set(MODULES)


@every_file
def test_sizes(path: Path) -> None:
    lines = len(path.read_text(encoding="utf-8").splitlines())
    assert lines < MAX_FILE, f"{lines} lines want to be two files"
    long = [
        f"{node.name}: {node.end_lineno - node.lineno + 1} lines"
        for node in ast.walk(tree_of(path))
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and node.end_lineno
        if node.end_lineno - node.lineno + 1 >= MAX_FUNCTION
    ]
    assert not long


@every_file
def test_nothing_is_swallowed_or_printed(path: Path) -> None:
    module = module_of(path)
    wrong = []
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.ExceptHandler) and node.type is None:
            wrong.append(f"line {node.lineno}: a bare except")
        called = node.func if isinstance(node, ast.Call) else None
        if isinstance(called, ast.Name) and called.id == "print" and not is_in(module, "ocrslim.cli", "ocrslim.report"):
            wrong.append(f"line {called.lineno}: print outside cli and report")
    assert not wrong


def raised_name(node: ast.Raise) -> str | None:
    """Return the name of the class that a ``raise`` names; ``None`` for a bare one or a variable."""
    target = node.exc.func if isinstance(node.exc, ast.Call) else node.exc
    return target.id if isinstance(target, ast.Name) else None


@every_file
def test_assertions_are_not_raised_by_hand(path: Path) -> None:
    # A user's mistake is an InputError; "Exception" says nothing.
    raised = {raised_name(node) for node in ast.walk(tree_of(path)) if isinstance(node, ast.Raise)}
    assert not raised & {"AssertionError", "Exception", "BaseException", "SystemExit"}


def test_every_error_is_ours() -> None:
    classes = [
        (module, node.name, [ast.unparse(base) for base in node.bases])
        for module, path in MODULES.items()
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.ClassDef) and node.name.endswith("Error")
    ]
    assert classes
    ours = {name for _, name, _ in classes}
    for module, name, bases in classes:
        assert name == "OcrslimError" or ours.intersection(bases), f"{module}.{name} derives from {bases}"


def test_lint_is_silenced_rarely_and_with_a_reason() -> None:
    lines = [line for path in FILES for line in path.read_text(encoding="utf-8").splitlines()]
    silenced = [line for line in lines if "# noqa" in line or "# type: ignore" in line]
    assert len(silenced) <= len(lines) / LINES_PER_SUPPRESSION
    # mypy's code in brackets is the reason of a "type: ignore"; a "noqa" gives its reason after a dash.
    assert not [line for line in silenced if "# noqa" in line and " - " not in line.split("# noqa", 1)[1]]
    assert not [line for line in silenced if "# type: ignore" in line and "# type: ignore[" not in line]


def test_there_is_as_much_test_as_source() -> None:
    def count(files: Iterator[Path]) -> int:
        return sum(len(path.read_text(encoding="utf-8").splitlines()) for path in files)

    assert count((PROJECT / "tests").rglob("*.py")) >= TESTS_PER_SOURCE * count(iter(FILES))
