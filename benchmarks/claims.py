"""What was claimed of a measurement, and what came of it."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from timing import threads_text


@dataclass(frozen=True)
class Claim:
    claim: str
    threads: int | None
    held: bool | None  # None: not measured
    figure: str


def conclude(record: dict[str, Any], claims: Sequence[Claim], path: Path | None) -> None:
    """Prints the claims, and writes them with all else that was measured."""
    print("\nclaims")
    for claim in claims:
        outcome = {True: "held", False: "MISSED", None: "-"}[claim.held]
        print(f"  {outcome:7} {threads_text(claim.threads):10} {claim.claim:70} {claim.figure}")
    record["claims"] = [vars(claim) for claim in claims]
    if path:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(record, indent=1) + "\n")
        print(f"written to {path}", file=sys.stderr)
