"""Claims about measurements, and whether they hold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from somvae_ext.bench.record import Record
from somvae_ext.bench.timing import threads_text


@dataclass(frozen=True)
class Claim:
    claim: str
    threads: int | None
    held: bool | None  # None: not measured
    figure: str


def conclude(record: Record, claims: Sequence[Claim]) -> None:
    """Prints the claims, and adds them to the record of the measurements."""
    print("\nclaims")
    for claim in claims:
        outcome = {True: "held", False: "MISSED", None: "-"}[claim.held]
        print(f"  {outcome:7} {threads_text(claim.threads):10} {claim.claim:70} {claim.figure}")
    record.put("claims", [vars(claim) for claim in claims])
    record.say_where()
