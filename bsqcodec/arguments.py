"""Types of arguments: a wrong one is a `UsageError` that names it, not an AttributeError from deep inside.

The annotations of a function are what is checked, so that nothing has to be said twice.
"""

from __future__ import annotations

import os
import reprlib
from collections.abc import Callable, Iterable, Sequence
from fractions import Fraction
from functools import cache, wraps
from inspect import signature
from itertools import chain
from numbers import Integral, Real
from types import NoneType, UnionType
from typing import Any, BinaryIO, ParamSpec, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from bsqcodec.errors import UsageError

P = ParamSpec("P")
R = TypeVar("R")

# annotation -> how messages call it, and what it takes where that is more than its own instances
_WORDS: dict[Any, str] = {
    int: "a whole number",
    float: "a number",
    Fraction: "a number",
    bool: "True or False",
    bytes: "bytes",
    NoneType: "None",
    os.PathLike: "a path",
    BinaryIO: "an open binary file",
    Callable: "a function",
    Iterable: "an iterable",
}
_TAKES: dict[Any, tuple[type, ...]] = {int: (Integral,), float: (Real,), bytes: (bytes, bytearray, memoryview)}


def checked(function: Callable[P, R]) -> Callable[P, R]:
    """A function that raises UsageError for arguments of other types than its annotations say.

    Whole numbers of other kinds, such as numpy's, become ints. Annotations that cannot be told at run time, such as
    protocols, are not looked at.
    """
    names, unchecked = tuple(signature(function).parameters), cast(Callable[..., R], function)

    @wraps(function)
    def call(*args: Any, **kwargs: Any) -> R:
        hints = _hints(function)
        for name, value in chain(zip(names, args, strict=False), kwargs.items()):
            if name in hints and not _fits(value, hints[name]):
                shown = " ".join(reprlib.repr(value).split())
                raise UsageError(f"{name} {shown}: must be {_words(hints[name])}")
        return unchecked(*map(_plain, args), **{name: _plain(value) for name, value in kwargs.items()})

    return call


@cache
def _hints(function: Callable[..., Any]) -> dict[str, Any]:
    # a picture may be a tensor, but nothing here waits for the import of torch
    return get_type_hints(function, localns={"Tensor": Any})


def _plain(value: Any) -> Any:
    """The value, a foreign whole number as an int."""
    return int(value) if isinstance(value, Integral) and not isinstance(value, int) else value


def _members(hint: Any) -> tuple[Any, ...]:
    return get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)


def _fits(value: Any, hint: Any) -> bool:
    return any(_is(value, member) for member in _members(hint))


def _is(value: Any, hint: Any) -> bool:
    kind = get_origin(hint) or hint
    if kind is BinaryIO:
        return hasattr(value, "read") or hasattr(value, "write")
    if kind is Sequence:
        return (
            isinstance(value, Sequence) and not isinstance(value, str) and all(_fits(v, *get_args(hint)) for v in value)
        )
    if kind is Any or not isinstance(kind, type) or getattr(kind, "_is_protocol", False):
        return True
    if isinstance(value, bool) and kind in (int, float):  # an int to Python, a mistake here
        return False
    return isinstance(value, _TAKES.get(kind, kind))


def _words(hint: Any) -> str:
    """What an annotation asks for, such as "a str, a number or None"."""
    words = [_word(member) for member in _members(hint)]
    known = list(dict.fromkeys(word for word in words if word != _WORDS[int] or _WORDS[float] not in words))
    return " or ".join(filter(None, (", ".join(known[:-1]), known[-1])))


def _word(hint: Any) -> str:
    kind = get_origin(hint) or hint
    if kind is Sequence:
        return f"a list (each {_words(*get_args(hint))})"
    return _WORDS.get(kind, f"a {kind.__name__}")
