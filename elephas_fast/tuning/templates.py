"""A user's ``model(x_train, ...)`` with ``{{choice([...])}}`` in it, as a function of its hyper-parameters.

Double braces are valid Python: a set that holds a set, which no program that runs can contain. So the function's own
source is parsed, each of them becomes a look-up, and the result is compiled under the file's own name and lines.
Nothing is written to disk.
"""

from __future__ import annotations

import ast
import builtins
import inspect
import json
import linecache
import textwrap
import types
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

DISTRIBUTIONS: Final = (
    "choice", "pchoice", "randint", "uniform", "uniformint", "quniform", "loguniform", "qloguniform", "normal",
    "qnormal", "lognormal", "qlognormal",
)  # fmt: skip
_PARAMETER: Final = "_elephas_fast_hyperparameters"


@dataclass(frozen=True)
class Parameter:
    """One pair of double braces: its ``name``, hyperopt's ``distribution`` and the arguments of that without the
    name."""

    name: str
    distribution: str
    arguments: tuple[Any, ...]
    keywords: dict[str, Any]


@dataclass(frozen=True)
class Template:
    """``function``, of the data and a value for each name, and the parameters in the order in which they stand."""

    function: Callable[..., Any]
    parameters: tuple[Parameter, ...]

    def call(self, data: tuple[Any, ...], values: Mapping[str, Any]) -> Any:
        """What the user's function returns for ``data`` and a value for each name."""
        return self.function(*data, **{_PARAMETER: values})


def template_of(function: Callable[..., Any], notebook_name: str | None = None) -> Template:
    """The template in the source of ``function``.

    ``notebook_name``: of the notebook (without ``.ipynb``) that holds the function, read where Python cannot find its
    source by itself. Raises ``ValueError`` for a function without source, without double braces, or with something
    else than a distribution of hyperopt in them.
    """
    if not isinstance(function, types.FunctionType):
        raise ValueError(f"model: expected a function, got {type(function).__name__}")
    tree, file = _definition(function, notebook_name)
    reader = _Reader(lambda imports: _names_of(function, tree, imports))
    tree = reader.visit(tree)
    if not reader.parameters:
        raise ValueError(
            f"model: expected a hyper-parameter in double braces, for instance {{{{uniform(0, 1)}}}}, in "
            f"{function.__name__}, got none"
        )
    return Template(_compiled(function, tree, file), tuple(reader.parameters))


class _Reader(ast.NodeTransformer):
    """Replaces each ``{{...}}`` and notes it."""

    def __init__(self, names: Callable[[bool], dict[str, Any]]) -> None:
        self.parameters: list[Parameter] = []
        self._names = names
        self._near: list[str] = []

    def visit_Call(self, node: ast.Call) -> ast.AST:
        """Arguments are called after the function, or after their keyword."""
        node.func = self.visit(node.func)
        called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "value")
        node.args = [self._visit_near(called, argument) for argument in node.args]
        for keyword in node.keywords:
            keyword.value = self._visit_near(keyword.arg or called, keyword.value)
        return node

    def visit_Assign(self, node: ast.Assign) -> ast.AST:
        """A value is called after the variable."""
        node.value = self._visit_near(_name_of(node.targets[0]), node.value)
        node.targets = [self.visit(target) for target in node.targets]
        return node

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST:
        """So is that of an annotated one."""
        node.value = node.value and self._visit_near(_name_of(node.target), node.value)
        node.target = self.visit(node.target)
        return node

    def visit_AugAssign(self, node: ast.AugAssign) -> ast.AST:
        """And what is added to one."""
        node.value = self._visit_near(_name_of(node.target), node.value)
        node.target = self.visit(node.target)
        return node

    def visit_Compare(self, node: ast.Compare) -> ast.AST:
        """What is compared is called a condition."""
        self._near.append("conditional")
        self.generic_visit(node)
        self._near.pop()
        return node

    def visit_Set(self, node: ast.Set) -> ast.AST:
        """The double braces themselves."""
        inner = node.elts[0] if len(node.elts) == 1 else None
        if not isinstance(inner, ast.Set) or len(inner.elts) != 1:
            return self.generic_visit(node)
        return ast.copy_location(self._read(inner.elts[0]), node)

    def _visit_near(self, name: str, node: Any) -> Any:
        self._near.append(name)
        found = self.visit(node)
        self._near.pop()
        return found

    def _read(self, node: ast.expr) -> ast.expr:
        text = f"{{{{{ast.unparse(node)}}}}}"
        called = node.func if isinstance(node, ast.Call) else None
        distribution = called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", None)
        if not isinstance(node, ast.Call) or distribution not in DISTRIBUTIONS:
            raise ValueError(f"model: expected one of {', '.join(DISTRIBUTIONS)} in double braces, got {text}")
        name = self._free_name(self._near[-1] if self._near else "value")
        look_up = ast.parse(f"{_PARAMETER}[{name!r}]", mode="eval").body
        options = node.args[0] if len(node.args) == 1 and not node.keywords else None
        if distribution == "choice" and isinstance(options, ast.List | ast.Tuple) and _is_made(options):
            # Layers and the like: each trial makes the one it needs, where it needs it.
            names = [ast.unparse(option) for option in options.elts]
            self.parameters.append(Parameter(name, distribution, (names,), {}))
            made = ast.parse(f"{{{', '.join(f'{n!r}: lambda: ({n})' for n in names)}}}", mode="eval").body
            return ast.Call(ast.Subscript(made, look_up, ast.Load()), [], [])
        arguments = tuple(self._value(argument, text) for argument in node.args)
        keywords = {str(keyword.arg): self._value(keyword.value, text) for keyword in node.keywords}
        self.parameters.append(Parameter(name, distribution, arguments, keywords))
        return look_up

    def _value(self, node: ast.expr, text: str) -> Any:
        try:
            return ast.literal_eval(node)
        except ValueError:
            pass
        code = compile(ast.Expression(node), "<hyper-parameter>", "eval")
        try:
            try:
                return eval(code, self._names(False))
            except NameError:
                return eval(code, self._names(True))
        except Exception as error:
            raise ValueError(
                f"model: could not evaluate {text} before the search ({type(error).__name__}: {error}); use names of "
                "the module there"
            ) from error

    def _free_name(self, wanted: str) -> str:
        taken = {parameter.name for parameter in self.parameters}
        name, number = wanted, 0
        while name in taken:
            number += 1
            name = f"{wanted}_{number}"
        return name


def _name_of(target: ast.expr) -> str:
    return target.attr if isinstance(target, ast.Attribute) else getattr(target, "id", "value")


def _is_made(options: ast.List | ast.Tuple) -> bool:
    """Whether they stand there one by one, and are no literals."""
    if any(isinstance(option, ast.Starred) for option in options.elts):
        return False
    try:
        ast.literal_eval(options)
    except ValueError:
        return True
    return False


def _names_of(function: types.FunctionType, tree: ast.FunctionDef, imports: bool) -> dict[str, Any]:
    """What an expression in the function can name before the function runs: its module, what it closes over, and with
    ``imports`` what it imports itself."""
    names = {**vars(builtins), **function.__globals__, **_closed_over(function)}
    found = [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]
    if imports and found:
        exec(compile(ast.Module(list(found), []), "<imports of model>", "exec"), names)
    return names


def _closed_over(function: types.FunctionType) -> dict[str, Any]:
    cells = zip(function.__code__.co_freevars, function.__closure__ or (), strict=True)
    found = {}
    for name, cell in cells:
        try:
            found[name] = cell.cell_contents
        except ValueError:  # not assigned yet
            continue
    return found


def _definition(function: types.FunctionType, notebook_name: str | None) -> tuple[ast.FunctionDef, str]:
    file = function.__code__.co_filename
    linecache.checkcache(file)
    try:
        lines, first = inspect.getsourcelines(function)
        source = "\n" * (first - 1) + textwrap.dedent("".join(lines))
    except (OSError, TypeError):
        source = _in_notebook(function.__name__, notebook_name)
    try:
        tree = ast.parse(source)
    except SyntaxError as error:
        raise ValueError(
            f"model: could not read {function.__name__} alone ({error.msg}, line {error.lineno})"
        ) from None
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and node.name == function.__name__:
            return node, file
    raise ValueError(f"model: expected a function made by def, got {function.__name__}")


def _in_notebook(name: str, notebook_name: str | None) -> str:
    missing = ValueError(
        f"model: Python finds no source of {name}; define it in a script or a notebook cell, or give notebook_name"
    )
    if notebook_name is None:
        raise missing
    path = Path(notebook_name if notebook_name.endswith(".ipynb") else f"{notebook_name}.ipynb")
    try:
        cells = json.loads(path.read_text())["cells"]
    except (OSError, ValueError, KeyError, TypeError):
        raise ValueError(f"notebook_name: expected a notebook to read {name} from, got {str(path)!r}") from None
    for cell in reversed(cells):
        source = "".join(cell.get("source", ""))
        if cell.get("cell_type") == "code" and f"def {name}(" in source:
            return "".join(line for line in source.splitlines(True) if not line.lstrip().startswith(("%", "!")))
    raise missing


def _compiled(function: types.FunctionType, tree: ast.FunctionDef, file: str) -> Callable[..., Any]:
    """The changed definition as a function of the same module, closure and defaults."""
    tree.decorator_list, tree.returns = [], None
    tree.args.kwonlyargs.append(ast.arg(_PARAMETER))
    tree.args.kw_defaults.append(None)
    tree.args.defaults = [ast.Constant(None) for _ in tree.args.defaults]
    tree.args.kw_defaults = [None if given is None else ast.Constant(None) for given in tree.args.kw_defaults]
    for argument in ast.walk(tree.args):
        if isinstance(argument, ast.arg):
            argument.annotation = None
    closed = _closed_over(function)
    maker = ast.FunctionDef(
        "_make", ast.arguments([], [ast.arg(name) for name in closed], None, [], [], None, []),
        [tree, ast.Return(ast.Name(tree.name, ast.Load()))], [],
    )  # fmt: skip
    apart: dict[str, Any] = {}
    exec(compile(ast.fix_missing_locations(ast.Module([maker], [])), file, "exec", dont_inherit=True), apart)
    inner = apart["_make"](**closed)
    made = types.FunctionType(inner.__code__, function.__globals__, tree.name, function.__defaults__, inner.__closure__)
    made.__kwdefaults__ = function.__kwdefaults__
    made.__module__, made.__qualname__ = function.__module__, function.__qualname__
    return made
