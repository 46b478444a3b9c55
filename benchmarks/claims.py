"""What was claimed of a measurement, and what came of it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from timing import threads_text


@dataclass(frozen=True)
class Claim:
    claim: str
    threads: int | None
    held: bool | None  # None: not measured
    figure: str


def show(claims: Iterable[Claim]) -> None:
    print("\nclaims")
    for claim in claims:
        outcome = {True: "held", False: "MISSED", None: "-"}[claim.held]
        print(f"  {outcome:7} {threads_text(claim.threads):10} {claim.claim:70} {claim.figure}")
