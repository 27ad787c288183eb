"""The templates of a batch: Liquid, strict, and limited in what they may compute and write.

People who do not program write them, and a service for many runs them: a variable that is missing is an error, files
cannot be read, and a template that would run for ever or fill the memory ends within a second.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import wraps
from typing import Any

from liquid import BoundTemplate, Environment
from liquid.builtin.content import ContentNode
from liquid.builtin.expressions import FilteredExpression, Path
from liquid.builtin.output import OutputNode
from liquid.exceptions import (
    LiquidError,
    LiquidSyntaxError,
    ResourceLimitError,
    UndefinedError,
)
from liquid.expression import Expression
from liquid.undefined import FalsyStrictUndefined
from markupsafe import escape

from notifications.limits import LONGEST_MESSAGE

#: Seconds of the processor for one rendering, and bytes that it may keep in variables of its own.
MOST_SECONDS, MOST_KEPT = 0.5, 1 << 20
#: Rounds of all loops of one rendering; fewer where the template is long, so that rounds times characters stay below
#: `MOST_WORK` (half a second, measured).
MOST_ROUNDS, MOST_WORK = 10_000, 5_000_000
#: Characters, or members, of what a filter is given or would make.
LARGEST_OPERAND = 1 << 20
#: They read other templates, of which there are none.
_FORBIDDEN_TAGS = ("include", "render")
#: It would put a value into the HTML as it is.
_FORBIDDEN_FILTER = "safe"

PARTS = ("title", "message", "html")


class TemplateProblem(Exception):
    """`field`: title, message or html. The message is for whoever wrote the template."""

    def __init__(self, field: str, code: str, detail: str) -> None:
        super().__init__(detail)
        self.field = field
        self.code = code
        self.detail = detail


@dataclass(frozen=True, slots=True)
class Content:
    """What one person is told."""

    title: str
    message: str
    html: str


class Templates:
    """The parts of one message. Raises TemplateProblem. Rendering is for one thread at a time, each of its own."""

    def __init__(self, title: str, message: str, html: str) -> None:
        texts = dict(zip(PARTS, (title, message, html), strict=True))
        self._parts = {part: _parsed(part, text) for part, text in texts.items()}
        self.variables: frozenset[str] = frozenset().union(
            *(template.global_variables() for template in self._parts.values())
        )
        self._plain = {part: _plain_of(template) for part, template in self._parts.items()}

    def render(self, values: Mapping[str, Any]) -> Content:
        """Raises TemplateProblem: `missing_variable`, `template_limit` or `template_error`."""
        _clock.ends = time.thread_time() + MOST_SECONDS
        return Content(*(self._render(part, values) for part in PARTS))

    def require_columns(self, columns: Collection[str]) -> None:
        """Raises TemplateProblem where no row can be rendered, since a variable is no column. Empty: not known."""
        if not columns:
            return
        try:
            self.render(dict.fromkeys(columns, "x"))
        except TemplateProblem as problem:
            if problem.code != "missing_variable":
                return
            named = f"{problem.detail} The columns are: {', '.join(columns)[:300]}."
            raise TemplateProblem(problem.field, problem.code, named) from problem

    def _render(self, part: str, values: Mapping[str, Any]) -> str:
        plain = self._plain[part]
        if plain and (text := plain.render(values)) is not None:
            return text
        try:
            return str(self._parts[part].render(**values))
        except UndefinedError as error:
            raise TemplateProblem(part, "missing_variable", _words(error)) from error
        except ResourceLimitError as error:
            raise TemplateProblem(part, "template_limit", _LIMIT.format(_words(error))) from error
        except LiquidError as error:
            raise TemplateProblem(part, "template_error", _words(error)) from error
        except (ArithmeticError, MemoryError, RecursionError, TypeError, ValueError) as error:
            raise TemplateProblem(part, "template_error", f"{error}.") from error


class _Plain:
    """A template of texts and variables alone, as most are: a tenth of Liquid's time, a million times over.

    What it does not understand it leaves to Liquid: anything but text in a variable, and all errors.
    """

    def __init__(self, pieces: list[tuple[str, bool]], autoescape: bool) -> None:
        self._pieces = pieces
        self._autoescape = autoescape

    def render(self, values: Mapping[str, Any]) -> str | None:
        texts = []
        for piece, is_name in self._pieces:
            text = values.get(piece) if is_name else piece
            if type(text) is not str:
                return None
            texts.append(escape(text) if is_name and self._autoescape else text)
        rendered = "".join(texts)
        return rendered if len(rendered) * 4 <= LONGEST_MESSAGE else None


def _plain_of(template: BoundTemplate) -> _Plain | None:
    pieces: list[tuple[str, bool]] = []
    for node in template.nodes:
        if isinstance(node, ContentNode):
            pieces.append((node.text, False))
        elif isinstance(node, OutputNode) and (name := _name_in(node.expression)):
            pieces.append((name, True))
        else:
            return None
    return _Plain(pieces, template.env.autoescape)


def _name_in(expression: Expression) -> str:
    """`first_name` of `{{ first_name }}`; "" where it is anything more."""
    if not isinstance(expression, FilteredExpression) or expression.filters:
        return ""
    if not isinstance(expression.left, Path) or len(expression.left.path) != 1:
        return ""
    [name] = expression.left.path
    return name if isinstance(name, str) else ""


_LIMIT = "The template does too much for one message: {}"


def _parsed(part: str, text: str) -> Any:
    if len(text.encode()) > LONGEST_MESSAGE:
        raise TemplateProblem(part, "max_length", f"It has more than {LONGEST_MESSAGE:,} bytes.")
    environment = _Environment(undefined=_Missing, autoescape=part == "html")
    environment.loop_iteration_limit = min(MOST_ROUNDS, MOST_WORK // max(len(text), 1))  # type: ignore[misc]
    try:
        template = environment.from_string(text)
    except (LiquidError, RecursionError) as error:
        raise TemplateProblem(part, "template_syntax", _words(error)) from error
    for name in template.analyze().filters:
        if name not in environment.filters:
            raise TemplateProblem(part, "template_syntax", f"There is no filter {name!r}.")
    return template


def _words(error: BaseException) -> str:
    """One sentence, with the line where Liquid tells one."""
    words = str(error.args[0] if error.args else error).strip().rstrip(".")
    token = getattr(error, "token", None)
    if token is not None and isinstance(error, LiquidSyntaxError):
        line = token.source.count("\n", 0, max(token.start_index, 0)) + 1
        words = f"{words} (line {line})"
    return f"{words[:1].upper()}{words[1:]}."


class _Missing(FalsyStrictUndefined):
    """A variable that a row does not have: fine in a condition or before `default`, an error anywhere else."""

    force_liquid_default = True

    def __init__(self, name: str, **kwargs: Any) -> None:
        super().__init__(name, **kwargs)
        self.msg = f"nothing is given for {{{{ {name} }}}}"


class _Clock(threading.local):
    """When this thread's rendering has to end."""

    ends = float("inf")


_clock = _Clock()


class _Environment(Environment):
    local_namespace_limit = MOST_KEPT
    output_stream_limit = LONGEST_MESSAGE

    def setup_tags_and_filters(self, *, extra: bool = False) -> None:
        super().setup_tags_and_filters(extra=extra)
        for tag in _FORBIDDEN_TAGS:
            del self.tags[tag]
        del self.filters[_FORBIDDEN_FILTER]
        self.filters = {name: _guarded(name, each) for name, each in self.filters.items()}


def _guarded(name: str, filter: Callable[..., Any]) -> Callable[..., Any]:
    """The filter, for operands of a sensible size and before the time is over. All but `replace` make no more than
    what they are given."""

    @wraps(filter)
    def guarded(*operands: Any, **options: Any) -> Any:
        if time.thread_time() > _clock.ends:
            raise ResourceLimitError("it takes too long", token=None)
        sizes = [_size(operand) for operand in operands]
        if name == "replace":
            sizes.append(_replaced_size(operands))
        if any(size > LARGEST_OPERAND for size in sizes):
            raise ResourceLimitError(f"{name} is given too much", token=None)
        return filter(*operands, **options)

    return guarded


def _size(operand: Any) -> int:
    return len(operand) if isinstance(operand, str | list | tuple | range) else 0


def _replaced_size(operands: tuple[Any, ...]) -> int:
    text, old, new = (str(operand) for operand in (*operands, "", "")[:3])
    return text.count(old) * len(new)
