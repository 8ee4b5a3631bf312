"""Lengths in micrometres, whatever unit a file tells them in.

Called by the formats' modules.
"""

from __future__ import annotations

from collections.abc import Mapping

MICROMETRE = "µm"
_MICROMETRES: Mapping[str, float] = {
    **dict.fromkeys(("µm", "μm", "um", "micron", "microns", "micrometer", "micrometre", "\\u00b5m"), 1.0),
    **dict.fromkeys(("nm", "nanometer", "nanometre"), 1e-3),
    **dict.fromkeys(("pm", "picometer", "picometre"), 1e-6),
    **dict.fromkeys(("å", "angstrom"), 1e-4),
    **dict.fromkeys(("mm", "millimeter", "millimetre"), 1e3),
    **dict.fromkeys(("cm", "centimeter", "centimetre"), 1e4),
    **dict.fromkeys(("m", "meter", "metre"), 1e6),
    **dict.fromkeys(("in", "inch"), 25_400.0),
}


def micrometres(unit: object) -> float | None:
    """How many micrometres a unit has; None if it is no length that is known.

    Examples
    --------
    >>> micrometres("mm"), micrometres("micrometer"), micrometres("pixel")
    (1000.0, 1.0, None)
    """
    return _MICROMETRES.get(str(unit).strip().lower())


def lengths(sizes: Mapping[str, object], units: Mapping[str, object]) -> dict[str, float]:
    """Sizes by axis in micrometres, of those that are finite numbers above 0 and whose unit is known.

    Examples
    --------
    >>> lengths({"Y": 0.5, "X": "500", "Z": 0}, {"Y": "um", "X": "nm", "Z": "um"})
    {'Y': 0.5, 'X': 0.5}
    """
    found: dict[str, float] = {}
    for axis, size in sizes.items():
        factor = micrometres(units.get(axis))
        try:
            length = float(size) * factor if factor is not None else 0.0  # type: ignore[arg-type]
        except (TypeError, ValueError):
            continue
        if 0 < length < float("inf"):
            found[axis] = length
    return found
