"""Comparisons that name the claim that does not hold."""

from typing import TypeVar

T = TypeVar("T")


def equal(claim: str, actual: object, expected: object) -> None:
    """Exits with the claim and both values unless they are equal."""
    if actual != expected:
        raise SystemExit(f"not true: {claim}\n  actual:   {actual!r}\n  expected: {expected!r}")


def instance(claim: str, value: object, kind: type[T]) -> T:
    """Returns the value with its type, or exits with the claim."""
    if not isinstance(value, kind):
        raise SystemExit(f"not true: {claim}\n  actual:   {value!r}\n  expected: {kind.__name__}")
    return value
