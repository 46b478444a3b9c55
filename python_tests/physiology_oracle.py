"""The printed table of the physiology score, and how to look up a value in it."""

from __future__ import annotations

import math

# From Knaus et al. 1991: the largest value of each band (for the temperature in tenths of a degree) and its points.
PRINTED = {
    "heartrate": [(39, 8), (49, 5), (99, 0), (109, 1), (119, 5), (139, 7), (154, 13), (300, 17)],
    "systemicmean": [(39, 23), (59, 15), (69, 7), (79, 6), (99, 0), (119, 4), (129, 7), (139, 9), (250, 10)],
    "temperature": [(329, 20), (334, 16), (339, 13), (349, 8), (359, 2), (399, 0), (450, 4)],
    "respiration": [(5, 17), (11, 8), (13, 7), (24, 0), (34, 6), (39, 9), (49, 11), (100, 18)],
}


def points(sign: str, value: float) -> int:
    """Looks up the points of a value in the printed table, truncating the value to the table's last digit."""
    printed = math.floor(round(value * 10, 6)) if sign == "temperature" else math.floor(value)
    return next(number for largest, number in PRINTED[sign] if printed <= largest)
