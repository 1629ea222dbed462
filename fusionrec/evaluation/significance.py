"""Many comparisons at once: p-values adjusted for how many there are."""

from __future__ import annotations

from collections.abc import Mapping


def holm(p: Mapping[str, float]) -> dict[str, float]:
    """Adjusted p-values that keep the chance of any false rejection at the level (Holm 1979).

    Step-down: of n p-values in ascending order the i-th (from 0) is multiplied by n - i, is at
    least the adjusted one before it, and at most 1. Comparing them with the level needs no
    assumption on how the tests depend on each other. (S. Holm, "A simple sequentially rejective
    multiple test procedure", Scandinavian Journal of Statistics 6(2), 1979.)

    Parameters
    ----------
    p
        By comparison: p-values between 0 and 1. All that belong to one claim, and no others.

    Returns
    -------
    By comparison, in the order given.

    Raises
    ------
    ValueError
        A p-value is NaN or not between 0 and 1.
    """
    for name, value in p.items():
        if not 0 <= value <= 1:
            raise ValueError(f"{name}: {value} is no p-value, leave the comparison out")
    adjusted = {}
    largest = 0.0
    for rank, name in enumerate(sorted(p, key=p.__getitem__)):
        largest = max(largest, min(1.0, (len(p) - rank) * p[name]))
        adjusted[name] = largest
    return {name: adjusted[name] for name in p}
