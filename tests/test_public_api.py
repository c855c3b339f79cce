"""What a module offers is what its ``__all__`` says, it is there, and its docstring tells the truth about it."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import ocrslim

SOURCE = Path(__file__).resolve().parents[1] / "src"
FILES = sorted((SOURCE / "ocrslim").rglob("*.py"))
NOT_DOCUMENTED = {"self", "cls"}
USERS_ERRORS = {"InputError", "ModelError", "DataError", "EngineError", "VerifyError"}
Function = ast.FunctionDef | ast.AsyncFunctionDef

every_file = pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def exported(tree: ast.Module) -> list[str] | None:
    """Return the module's ``__all__``, which has to be a literal; ``None`` where it has none."""
    for node in tree.body:
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        if any(isinstance(target, ast.Name) and target.id == "__all__" for target in targets):
            assert isinstance(node, (ast.Assign, ast.AnnAssign))
            assert node.value is not None
            return list(ast.literal_eval(node.value))
    return None


def bound(tree: ast.Module) -> set[str]:
    """Return the names that the module binds at its top level, by definition, assignment or import."""
    names: set[str] = set()
    for node in tree.body:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            names.add(node.name)
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            names |= {(alias.asname or alias.name).split(".")[0] for alias in node.names}
        elif isinstance(node, (ast.Assign, ast.AnnAssign)):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names |= {name.id for target in targets for name in ast.walk(target) if isinstance(name, ast.Name)}
    return names


def public(tree: ast.Module) -> Iterator[tuple[str, Function | ast.ClassDef, ast.ClassDef | None]]:
    """Yield (dotted name, definition, class it is in) of what is public: functions, classes and their methods."""
    for node in tree.body:
        if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)) or node.name.startswith("_"):
            continue
        yield node.name, node, None
        for member in node.body if isinstance(node, ast.ClassDef) else ():
            if isinstance(member, (ast.FunctionDef, ast.AsyncFunctionDef)) and not member.name.startswith("_"):
                yield f"{node.name}.{member.name}", member, node


@every_file
def test_all_is_there_and_names_what_is_there(path: Path) -> None:
    tree = tree_of(path)
    names = exported(tree)
    assert names is not None, "give the module an __all__"
    assert len(set(names)) == len(names)
    assert set(names) <= bound(tree)
    assert not [name for name in names if name.startswith("_") and name != "__version__"]


@every_file
def test_nothing_is_public_by_accident(path: Path) -> None:
    tree = tree_of(path)
    accidental = {name for name, _, inside in public(tree) if inside is None} - set(exported(tree) or ())
    assert not accidental, "put them into __all__ or begin their names with an underscore"


@every_file
def test_a_module_and_what_is_public_in_it_have_docstrings(path: Path) -> None:
    tree = tree_of(path)
    assert ast.get_docstring(tree)
    bare = [name for name, node, _ in public(tree) if not ast.get_docstring(node) and not overloads(node)]
    assert not bare


def overloads(node: Function | ast.ClassDef) -> bool:
    """Say whether a definition only restates another: an overload, or an override marked as one."""
    return any(ast.unparse(mark).split(".")[-1] in ("overload", "override") for mark in node.decorator_list)


def documented(text: str, section: str = "Args") -> list[str]:
    """Return the names in a docstring's ``Args:`` section."""
    found = re.search(rf"^{section}:\n((?:[ ]+.*\n?|\n)+)", text, re.MULTILINE)
    return re.findall(r"^ {4}\*{0,2}(\w+)(?: \([^)]*\))?:", found.group(1), re.MULTILINE) if found else []


def arguments_of(node: Function) -> list[ast.arg]:
    """Return all arguments of a function but ``self`` and ``cls``."""
    arguments = node.args
    several = [argument for argument in (arguments.vararg, arguments.kwarg) if argument]
    named = (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)
    return [argument for argument in (*named, *several) if argument.arg not in NOT_DOCUMENTED]


def parameters(node: Function) -> list[str]:
    return [argument.arg for argument in arguments_of(node)]


def constructor(node: ast.ClassDef) -> list[str]:
    """Return what makes an instance: the arguments of ``__init__``, else the fields of a dataclass."""
    for member in node.body:
        if isinstance(member, ast.FunctionDef) and member.name == "__init__":
            return parameters(member)
    return [
        member.target.id
        for member in node.body
        if isinstance(member, ast.AnnAssign) and isinstance(member.target, ast.Name)
        if "init=False" not in ast.unparse(member)
    ]


@every_file
def test_documented_arguments_are_the_real_ones(path: Path) -> None:
    wrong = {}
    for name, node, _ in public(tree_of(path)):
        told = documented(ast.get_docstring(node) or "")
        real = constructor(node) if isinstance(node, ast.ClassDef) else parameters(node)
        if told and sorted(told) != sorted(real):
            wrong[name] = f"documents {told}, takes {real}"
    assert not wrong


@every_file
def test_every_argument_and_result_is_typed(path: Path) -> None:
    untyped = []
    for node in ast.walk(tree_of(path)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            arguments = (
                *node.args.posonlyargs,
                *node.args.args,
                *node.args.kwonlyargs,
                node.args.vararg,
                node.args.kwarg,
            )
            missing = [a.arg for a in arguments if a and a.annotation is None and a.arg not in NOT_DOCUMENTED]
            untyped += [f"line {node.lineno}: {node.name}({argument})" for argument in missing]
            if node.returns is None:
                untyped.append(f"line {node.lineno}: {node.name} returns what?")
    assert not untyped


def raised(node: ast.AST) -> set[str]:
    """Return the names of the classes that are raised within a definition."""
    calls = [item.exc for item in ast.walk(node) if isinstance(item, ast.Raise) and isinstance(item.exc, ast.Call)]
    return {call.func.id for call in calls if isinstance(call.func, ast.Name)}


@every_file
def test_what_is_raised_on_purpose_is_told(path: Path) -> None:
    if path.name == "cli.py" or path.parent.name == "ops":
        return  # main() turns errors into exit codes; an operator's schema says what it takes
    silent = [
        f"{name}: {error}"
        for name, node, _ in public(tree_of(path))
        if not isinstance(node, ast.ClassDef)  # each method answers for itself
        for error in raised(node) & USERS_ERRORS
        if error not in (ast.get_docstring(node) or "")
    ]
    assert not silent


def test_the_package_offers_its_version_and_load() -> None:
    assert ocrslim.__all__ == ["__version__", "load"]
    assert re.fullmatch(r"\d+\.\d+\.\d+", ocrslim.__version__)


def test_the_package_says_that_it_is_typed() -> None:
    assert (SOURCE / "ocrslim" / "py.typed").exists()


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("Do.\n\nArgs:\n    a: first,\n        with more: lines\n    b: second\n\nReturns:\n    c: no", ["a", "b"]),
        ("Do.\n\nArgs:\n    *rest: all\n    **more: others\n", ["rest", "more"]),
        ("Do nothing.", []),
        ("Do.\n\nReturns:\n    x: y", []),
    ],
)
def test_arguments_are_read_out_of_docstrings(text: str, names: list[str]) -> None:
    assert documented(text) == names
