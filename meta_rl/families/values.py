"""Convert values to the form that an environment keeps, and check that it kept them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from numbers import Number
from typing import Any

import numpy as np
import torch

from meta_rl.errors import InputError
from meta_rl.families.physics import Change


def is_plain(value: Any) -> bool:
    """Return whether a value is a number, a word or a sequence of these, as in tasks."""
    if isinstance(value, list | tuple):
        return all(is_plain(entry) for entry in value)
    return isinstance(value, Number | str | np.ndarray | np.generic | torch.Tensor)


def in_form_of(old: Any, change: Change) -> Any:
    """Return the new value in the form of the old: an array for an array, a list for a list.

    Raises:
        InputError: if the form cannot hold the value, or if a number or word cannot replace the
            old value, such as a method.
    """
    name, value = change.target, change.value
    if not is_plain(value) or (old is None and not change.scale):
        return value
    if old is None:
        return None
    if not is_plain(old):
        method = callable(old) and not isinstance(old, type)
        kind = "a method" if method else f"of type {type(old).__name__}"
        raise InputError(
            f"parameter {name}: expected an attribute that is a number, a word or a vector of "
            f"them, {name} is {kind}. Use target= to name another attribute or an argument."
        )
    if isinstance(old, bool) and isinstance(value, Number) and value not in (0, 1):
        raise not_kept(name, bool(value), value)
    try:
        new, asked = _converted(old, value, change.scale)
    except (TypeError, ValueError) as error:
        raise InputError(
            f"parameter {name}: the environment's {_kind(old)} {_shown(old)} cannot become "
            f"{value!r}: {error}."
        ) from error
    if not is_kept(new, asked):
        raise not_kept(name, new, value)
    return new


def is_kept(found: Any, asked: Any) -> bool:
    """Return whether the value found is the value asked for, to the precision of its floats.

    One number may stand for all entries of an array. A whole number may be kept as a float and a
    whole float as an integer, but 1.4 may not be kept as 1.
    """
    if found is None or asked is None:
        return found is asked
    have, want = _entries(found), _entries(asked)
    if len(want) == 1:
        want = want * len(have)
    if len(have) != len(want) or not have:
        return False
    return all(_equal(a, b, _precision(found)) for a, b in zip(have, want, strict=True))


def not_kept(name: str, found: Any, asked: Any) -> InputError:
    """Return the error to raise for a value that the environment changes."""
    return InputError(
        f"parameter {name}: the environment keeps it as {_kind(found)} {_shown(found)}, asked for "
        f"{asked!r}. Declare the attribute so that it can hold every value, as with floats, or "
        "narrow the parameter to values that it keeps, as a Choice of whole numbers."
    )


def require_not_coerced(name: str, pairs: Sequence[tuple[Any, Any]]) -> None:
    """Refuse an argument that the constructor visibly rounds or clamps.

    A constructor may turn an argument into anything. Only two results are surely wrong: a fraction
    kept as a neighbouring whole number, and a value clamped to a bound of the kept values.

    Args:
        name: the name of the argument and of the attribute that it was read from.
        pairs: each value asked for, with the attribute's value.

    Raises:
        InputError: if a value is rounded or clamped, naming it.
    """
    changed = [(asked, found) for asked, found in pairs if not is_kept(found, asked)]
    for asked, found in changed:
        if all(_is_rounded(*pair) for pair in changed) or _is_clamped(asked, found, pairs):
            raise not_kept(name, found, asked)


def _is_rounded(asked: Any, found: Any) -> bool:
    have, want = _entries(found), _entries(asked)
    whole = have and all(isinstance(entry, int) for entry in have) and len(have) == len(want)
    return bool(whole) and all(
        isinstance(b, float) and abs(a - b) < 1 for a, b in zip(have, want, strict=True)
    )


def _is_clamped(asked: Any, found: Any, pairs: Sequence[tuple[Any, Any]]) -> bool:
    def numbers(value: Any) -> bool:
        return isinstance(value, int | float | np.number) and not isinstance(value, bool)

    kept = [a for a, f in pairs if numbers(a) and is_kept(f, a)]
    if len(set(kept)) < 2 or not numbers(asked) or not numbers(found):
        return False
    return max(kept) <= found < asked or asked < found <= min(kept)


def _converted(old: Any, value: Any, scale: bool) -> tuple[Any, Any]:
    """Return the new value in the old value's form, and the new value before that conversion."""
    if isinstance(old, torch.Tensor):
        new, asked = _converted(old.detach().cpu().numpy(), value, scale)
        return torch.from_numpy(new).to(old.device), asked
    if isinstance(old, np.ndarray):
        wide = _spread(value, old.shape)
        wide = old * wide if scale else wide
        with np.errstate(all="ignore"):  # the caller checks what a cast loses
            return wide.astype(old.dtype), wide
    if isinstance(old, list | tuple):
        if any(isinstance(entry, list | tuple) for entry in old):
            new, asked = _converted(np.asarray(old, dtype=float), value, scale)
            return type(old)(new.tolist()), asked
        wide = _spread(value, (len(old),)).tolist()
        wide = [a * b for a, b in zip(old, wide, strict=True)] if scale else wide
        make: Callable = getattr(old, "_make", type(old))  # named tuples have _make
        return make(wide), wide if scale else value
    new = old * value if scale else value
    return new, new


def _spread(value: Any, shape: tuple[int, ...]) -> np.ndarray:
    """Return an array of the shape: one number repeated, or one number for each entry."""
    new, size = np.asarray(value), int(np.prod(shape))
    if new.dtype.kind not in "biuf":  # words, and integers that no float holds
        new = np.asarray(value, dtype=object)
    if new.size not in (1, size) or not size:
        raise ValueError(f"expected {size} numbers, got {new.size}")
    return new.reshape(shape) if new.size == size else np.full(shape, new.reshape(-1)[0])


def _entries(value: Any) -> list[Any]:
    if isinstance(value, torch.Tensor):
        value = value.detach().cpu().numpy()
    flat = np.asarray(value, dtype=object).ravel().tolist()
    return [entry.item() if isinstance(entry, np.generic) else entry for entry in flat]


def _equal(have: Any, want: Any, precision: float) -> bool:
    if isinstance(have, int | float) and isinstance(want, int | float):
        return have == want or abs(have - want) <= precision * abs(want)
    return type(have) is type(want) and bool(have == want)


def _precision(found: Any) -> float:
    """Return the relative rounding of the value's float type; 0 for Python's own numbers."""
    if isinstance(found, torch.Tensor):
        found = found.detach().cpu().numpy()
    dtype: Any = getattr(found, "dtype", np.dtype(object))
    narrow = dtype.kind == "f" and dtype.itemsize < 8
    return float(np.finfo(dtype).eps) if narrow else 0.0


def _kind(value: Any) -> str:
    return str(getattr(value, "dtype", type(value).__name__))


def _shown(value: Any) -> str:
    """Show a value on one line."""
    return repr(value.tolist() if hasattr(value, "tolist") else value)
