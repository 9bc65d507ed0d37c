"""Jinja with bounds: what a template of a downloaded file may cost.

Jinja's sandbox keeps a template away from Python's insides, not from time and memory: nested loops
run for years, ``"a" * 10**10`` is one operation, and a few doublings make more text than there is
memory. Here every loop step, call, filter and operator passes a check; what would be too large is
refused before it is made, and the processor time of one rendering is limited.

Importing this module imports jinja2; :mod:`llama_cpp._chat_template` does so when it must.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import datetime
from functools import wraps
from itertools import islice
from typing import TYPE_CHECKING, Any

from jinja2 import nodes
from jinja2.exceptions import SecurityError, TemplateError
from jinja2.ext import Extension, LoopControlExtension
from jinja2.runtime import Undefined
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace
from jinja2.visitor import NodeTransformer

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from jinja2.parser import Parser
    from jinja2.runtime import Context

LONGEST = 2**24
"""Most characters of one text, and most items of one list."""
MOST_ITEMS = 2**18
"""Most items of a value, those of its items included."""
TOTAL = 2**28
"""Most characters and items made in one rendering, together."""
SECONDS = 5.0
"""Most processor time of one rendering."""
WIDEST = 10_000
"""Largest width, indentation or count that a filter or method takes."""
_TICKS = 64  # steps between two looks at the clock
_BITS = 4096

_CONTAINERS = (str, bytes, list, tuple, dict)
# Filters whose cost does not depend on what is inside the items of a container.
_SHALLOW = frozenset(
    {
        *("attr", "batch", "count", "d", "default", "dictsort", "first", "groupby", "items"),
        *("last", "length", "list", "map", "max", "min", "random", "reject", "rejectattr"),
        *("reverse", "select", "selectattr", "slice", "sort", "sum", "unique"),
    }
)
_WIDTHS = frozenset(
    {
        *("batch", "center", "expandtabs", "indent", "ljust", "rjust", "slice", "to_bytes"),
        *("tojson", "truncate", "wordwrap", "zfill"),
    }
)


class Budget:
    """What one rendering has used."""

    __slots__ = ("end", "made", "ticks")

    def __init__(self) -> None:
        """Start the clock of this thread's processor time."""
        self.ticks = 0
        self.made = 0
        self.end = time.thread_time() + SECONDS

    def tick(self, steps: int = 1) -> None:
        """Count steps, and look at the clock now and then."""
        self.ticks += steps
        if self.ticks >= _TICKS:
            self.ticks = 0
            if time.thread_time() > self.end:
                raise SecurityError(f"it runs for more than {SECONDS:g} seconds")

    def make(self, size: int) -> None:
        """Allow ``size`` characters or items more."""
        self.check(size)
        self.made += size
        if self.made > TOTAL:
            raise SecurityError(f"it makes more than {TOTAL} characters and items in all")

    @staticmethod
    def check(size: int) -> None:
        """Allow one text or list of ``size`` characters or items."""
        if size > LONGEST:
            raise SecurityError(f"it makes a text or list of {size} parts; {LONGEST} are allowed")


_budget: ContextVar[Budget] = ContextVar("budget")


@contextmanager
def bounded() -> Iterator[Budget]:
    """Start a budget for what compiles or renders a template inside."""
    budget = Budget()
    token = _budget.set(budget)
    try:
        yield budget
    finally:
        _budget.reset(token)


class BoundedEnvironment(ImmutableSandboxedEnvironment):
    """Jinja as chat templates are written for (Hugging Face's rendering), with bounds."""

    intercepted_binops = frozenset(["*", "**", "+", "%"])

    def __init__(self) -> None:
        """Set the environment up as the templates' authors had it."""
        super().__init__(
            trim_blocks=True,
            lstrip_blocks=True,
            extensions=[LoopControlExtension, IgnoreGenerationTags],
            finalize=printable,
        )
        self.filters["tojson"] = to_json
        for name in ("urlize", "filesizeformat"):
            del self.filters[name]
        for name, function in self.filters.items():
            self.filters[name] = _checked(name, function)
        del self.globals["lipsum"]
        self.globals["raise_exception"] = raise_exception
        self.globals["strftime_now"] = strftime_now

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        tree = super()._parse(source, name, filename)
        changed: nodes.Template = _Counting().visit(tree)
        changed.set_environment(self)
        return changed

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        """Let templates use a list as a queue, which some models' do; other changes stay forbidden."""
        return (type(obj) is list and attr in {"append", "pop"}) or super().is_safe_attribute(
            obj, attr, value
        )

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        """Check the size of a result before it is made."""
        budget = _budget.get()
        budget.tick()
        if operator == "*":
            _check_product(left, right)
        elif operator == "**":
            _check_power(left, right)
        elif operator == "+":
            budget.make(_size(left) + _size(right))
        elif isinstance(left, (str, bytes)):
            budget.make(_format_size(left, right))
        return super().call_binop(context, operator, left, right)

    def call(__self, __context: Context, __obj: Any, /, *args: Any, **kwargs: Any) -> Any:  # noqa: N805 - no keyword of a template can collide
        """Check a call of a macro, a method or a global."""
        budget = _budget.get()
        budget.tick()
        # the sandbox hands str.format out wrapped
        owner = getattr(getattr(__obj, "__wrapped__", __obj), "__self__", None)
        if isinstance(owner, (str, bytes, int, float)):
            args = tuple(map(_solid, args))
            _check_growth(getattr(__obj, "__name__", ""), owner, args, kwargs)
        result = super().call(__context, __obj, *args, **kwargs)
        if __obj is dict:
            budget.make(weigh(result))
        elif isinstance(result, _CONTAINERS):
            budget.make(len(result))
        return result

    def join(self, *parts: object) -> str:
        """Join what ``~`` joins."""
        texts = [str(printable(part)) for part in parts]
        budget = _budget.get()
        budget.tick()
        budget.make(sum(map(len, texts)))
        return "".join(texts)

    def cut(self, value: Any, *bounds: Any) -> Any:
        """Take a slice."""
        budget = _budget.get()
        budget.tick()
        part = value[slice(*bounds)]
        budget.make(_size(part))
        return part

    def contain(self, value: Any) -> Any:
        """Check a list, tuple or dict that the template spells."""
        _budget.get().make(weigh(value))
        return value

    def weighed(self, value: Any) -> Any:
        """Check a value that is compared."""
        if isinstance(value, (list, tuple, dict)):
            weigh(value)
        return value

    def step(self, size: int) -> None:
        """Count one step of a loop that has ``size`` characters of text in it."""
        budget = _budget.get()
        budget.tick()
        budget.make(size)


class _Counting(NodeTransformer):
    """Puts the checks where Jinja's compiler has no hook."""

    def visit_For(self, node: nodes.For) -> nodes.Node:  # noqa: N802 - Jinja's
        text = sum(len(data.data) for data in node.find_all(nodes.TemplateData))
        self.generic_visit(node)
        step = nodes.ExprStmt(_call("step", [nodes.Const(text)], node.lineno), lineno=node.lineno)
        node.body.insert(0, step)
        return node

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:  # noqa: N802 - Jinja's
        self.generic_visit(node)
        return _call("join", node.nodes, node.lineno)

    def visit_Getitem(self, node: nodes.Getitem) -> nodes.Node:  # noqa: N802 - Jinja's
        self.generic_visit(node)
        part = node.arg
        if not isinstance(part, nodes.Slice):
            return node
        bounds = [bound or nodes.Const(None) for bound in (part.start, part.stop, part.step)]
        return _call("cut", [node.node, *bounds], node.lineno)

    def visit_Compare(self, node: nodes.Compare) -> nodes.Node:  # noqa: N802 - Jinja's
        self.generic_visit(node)
        node.expr = _weighed(node.expr)
        for operand in node.ops:
            operand.expr = _weighed(operand.expr)
        return node

    def visit_List(self, node: nodes.List) -> nodes.Node:  # noqa: N802 - Jinja's
        self.generic_visit(node)
        return _call("contain", [node], node.lineno) if node.items else node

    def visit_Dict(self, node: nodes.Dict) -> nodes.Node:  # noqa: N802 - Jinja's
        self.generic_visit(node)
        return _call("contain", [node], node.lineno) if node.items else node

    def visit_Tuple(self, node: nodes.Tuple) -> nodes.Node:  # noqa: N802 - Jinja's
        self.generic_visit(node)
        if node.ctx != "load" or not node.items:
            return node
        return _call("contain", [node], node.lineno)


def _call(method: str, arguments: Sequence[nodes.Expr], line: int | None = None) -> nodes.Call:
    call = nodes.Call(
        nodes.EnvironmentAttribute(method, lineno=line), list(arguments), [], None, None
    )
    call.lineno = line or 0
    return call


def _weighed(node: nodes.Expr) -> nodes.Expr:
    return node if isinstance(node, nodes.Const) else _call("weighed", [node], node.lineno)


class IgnoreGenerationTags(Extension):
    """``{% generation %}…{% endgeneration %}``, which marks answers in training data."""

    tags = {"generation"}  # noqa: RUF012 - Jinja's declaration

    def parse(self, parser: Parser) -> list[nodes.Node]:
        """Return what is between the tags."""
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def raise_exception(message: object) -> None:
    """End the rendering: the template does not take these messages.

    Raises:
        TemplateError: always.
    """
    raise TemplateError(str(message))


def strftime_now(format: str) -> str:  # noqa: A002 - the templates' name
    """Return the local time as text."""
    return datetime.now().strftime(format)  # noqa: DTZ005 - local time is what templates want


def to_json(
    value: object,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """Return JSON without HTML's escapes, which Jinja's own filter adds."""
    return json.dumps(
        value,
        ensure_ascii=ensure_ascii,
        indent=indent,
        separators=separators,
        sort_keys=sort_keys,
    )


def printable(value: object) -> object:
    """Check what is going to be text."""
    if isinstance(value, str):
        _budget.get().make(len(value))
    elif not isinstance(value, (int, float, Undefined)) and value is not None:
        _budget.get().make(weigh(value))
    return value


def weigh(value: object) -> int:
    """Count the characters and items in a value, shared ones as often as they are printed.

    Raises:
        SecurityError: there are more than :data:`LONGEST`.
    """
    total = count = 0
    left = [value]
    while left:
        item = left.pop()
        count += 1
        if isinstance(item, (str, bytes)):
            total += len(item)
        elif isinstance(item, dict):
            left.extend(item)
            left.extend(item.values())
        elif isinstance(item, (list, tuple)):
            left.extend(item)
        elif isinstance(item, Namespace):
            left.extend(object.__getattribute__(item, "_Namespace__attrs").values())
        if count + len(left) > MOST_ITEMS:
            raise SecurityError(f"it makes a value of more than {MOST_ITEMS} items")
    _budget.get().tick(count)
    return total + count


def _checked(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap a filter; ``wraps`` keeps Jinja's mark of whether it takes the context."""
    skipped = 1 if hasattr(function, "jinja_pass_arg") else 0

    @wraps(function)
    def checked(*args: Any, **kwargs: Any) -> Any:
        budget = _budget.get()
        budget.tick()
        if len(args) > skipped:
            value, rest = args[skipped], args[skipped + 1 :]
            if name not in _SHALLOW and not isinstance(value, str):
                value = _solid(value)
                args = (*args[:skipped], value, *rest)
                budget.make(weigh(value))
            _check_growth(name, value, rest, kwargs)
        result = function(*args, **kwargs)
        if isinstance(result, _CONTAINERS):
            budget.make(len(result))
        return result

    return checked


def _solid(value: Any) -> Any:
    """Return a list of what a filter such as ``map`` gives one by one."""
    return list(islice(value, MOST_ITEMS)) if isinstance(value, Iterator) else value


def _check_growth(name: str, value: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> None:
    """Refuse a filter or method whose result would be much larger than what it is given."""
    make = _budget.get().make
    given = [*args, *kwargs.values()]
    if name in _WIDTHS:
        width = 0
        for number in given:
            if isinstance(number, int) and abs(number) > WIDEST:
                raise SecurityError(f"{name} is asked for {number}; {WIDEST} are allowed")
            width = max(width, number if isinstance(number, int) else _size(number))
        if name in {"indent", "tojson", "wordwrap", "expandtabs"}:
            make(_size(value) + (_lines(name, value) + 1) * width)
    elif name == "join" and given:
        joined = [value, given[0]] if isinstance(value, (str, bytes)) else [given[0], value]
        items = joined[1]
        make(weigh(items) + _size(joined[0]) * (_size(items) or 1))
    elif name == "replace" and len(given) > 1:
        text = str(value)
        make(len(text) + text.count(str(given[0])) * len(str(given[1])))
    elif name in {"format", "format_map"}:
        make(_format_size(value, given))
    elif name == "translate" and given and isinstance(given[0], dict):
        make(_size(value) * max(map(_size, given[0].values()), default=1))
    elif name == "sum" and any(isinstance(item, _CONTAINERS) for item in given):
        raise SecurityError("sum is for numbers")


def _lines(name: str, value: object) -> int:
    """Return how often an indentation or a separator can be inserted."""
    if name == "tojson":
        return weigh(value)
    if name == "wordwrap" or not isinstance(value, str):
        return _size(value)
    return value.count("\t" if name == "expandtabs" else "\n")


def _format_size(pattern: object, values: object) -> int:
    """Return at most how long a formatted text can become."""
    text = pattern.decode("latin-1") if isinstance(pattern, bytes) else str(pattern)
    widths = [int(digits) for digits in re.findall(r"\d+", text) if len(digits) < 10]
    widths += [LONGEST + 1 for digits in re.findall(r"\d{10,}", text)]
    if "*" in text or "{" in text:
        widths += [abs(item) for item in _flat(values) if isinstance(item, int)]
    if any(width > LONGEST for width in widths):
        raise SecurityError("it formats a value wider than allowed")
    fields = text.count("%") + text.count("{")
    return len(text) + sum(widths) + fields * weigh(values)


def _flat(values: object) -> Sequence[object]:
    if isinstance(values, dict):
        return list(values.values())
    return values if isinstance(values, (list, tuple)) else [values]


def _check_product(left: Any, right: Any) -> None:
    for repeated, times in ((left, right), (right, left)):
        if isinstance(repeated, (str, bytes, list, tuple)) and isinstance(times, int):
            _budget.get().make(len(repeated) * max(times, 0))
            return
    if (
        isinstance(left, int)
        and isinstance(right, int)
        and left.bit_length() + right.bit_length() > _BITS
    ):
        raise SecurityError("it multiplies numbers that are too large")


def _check_power(base: Any, exponent: Any) -> None:
    if (
        isinstance(base, int)
        and isinstance(exponent, int)
        and base.bit_length() * abs(exponent) > _BITS
    ):
        raise SecurityError("it raises a number to a power that is too large")


def _size(value: object) -> int:
    return len(value) if isinstance(value, _CONTAINERS) else 0
