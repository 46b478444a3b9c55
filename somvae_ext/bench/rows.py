"""The form of all measurements: a row has a case, and the seconds of every repetition of every contestant."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

OURS = "somvae_ext"
_DIGITS = 6  # of a time in a file; clocks are no more precise


@dataclass(frozen=True)
class Row:
    """One case of a suite, measured once.

    Attributes:
        suite: name of the suite.
        case: what is done, such as ``"som_losses, forward"``; with ``size``, ``dtype``, ``device`` and ``threads`` it
            identifies the row.
        size: the sizes of the case, by name.
        dtype: of the data, such as ``"float32"``.
        device: ``"cpu"`` or ``"cuda"``.
        threads: number of CPU threads; None on CUDA.
        samples: seconds of each repetition of each contestant. Contestants take turns: the i-th repetitions of all that
            have equally many were taken one after the other. Empty if only ``extra`` was measured.
        repetitions: how many of a contestant's samples belong to each pass; empty if there was one pass.
        own: contestants that run this project's code, ours first; :mod:`~somvae_ext.bench.compare` compares these.
        work: operations or bytes of one call of ours; None where a rate would mean nothing.
        unit: of rates: ``"GFLOP/s"`` or ``"GB/s"``.
        ceilings: contestants that show the highest rates of the machine, such as a matrix product, with their own work.
        notes: why a contestant is absent, or how its samples differ, such as extrapolated or less precise.
        extra: other measurements, such as bytes of memory and errors.
    """

    suite: str
    case: str
    size: Mapping[str, float | str]
    dtype: str = "float32"
    device: str = "cpu"
    threads: int | None = None
    samples: Mapping[str, Sequence[float]] = field(default_factory=dict)
    repetitions: Mapping[str, Sequence[int]] = field(default_factory=dict)
    own: Sequence[str] = (OURS,)
    work: float | None = None
    unit: str = "GFLOP/s"
    ceilings: Mapping[str, float] = field(default_factory=dict)
    notes: Mapping[str, str] = field(default_factory=dict)
    extra: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "own", tuple(self.own))
        object.__setattr__(self, "repetitions", {name: tuple(counts) for name, counts in self.repetitions.items()})
        for name, counts in self.repetitions.items():
            if sum(counts) != len(self.samples[name]):
                raise ValueError(f"{name} must have {sum(counts)} samples, as its repetitions say, got another number")

    @property
    def ours(self) -> str:
        return self.own[0]

    @property
    def label(self) -> str:
        """Case and sizes, and the dtype where it is not float32."""
        sizes = " ".join(f"{name}={_short(value)}" for name, value in self.size.items())
        return " ".join(filter(None, [self.case, sizes, "" if self.dtype == "float32" else self.dtype]))

    @property
    def key(self) -> tuple[object, ...]:
        """Equal for rows of two files that measured the same."""
        return self.suite, self.label, self.device, self.threads

    @property
    def others(self) -> list[str]:
        """Contestants with samples, except ours and the ceilings."""
        return [name for name in self.samples if name != self.ours and name not in self.ceilings]

    def seconds(self, name: str | None = None) -> float:
        """Median over the repetitions of a contestant, by default of ours."""
        return statistics.median(self.samples[self.ours if name is None else name])

    def speedup(self, name: str) -> float:
        """How many times as long as ours another contestant takes."""
        return self.seconds(name) / self.seconds()

    def rate(self) -> float | None:
        """Our rate, in ``unit``."""
        return None if self.work is None or self.ours not in self.samples else self.work / self.seconds() / 1e9

    def ceiling_rate(self, name: str) -> float:
        return self.ceilings[name] / self.seconds(name) / 1e9

    def share_of_ceiling(self) -> float | None:
        """Our rate over that of the first ceiling."""
        rate, name = self.rate(), next(iter(self.ceilings), None)
        return None if rate is None or name is None else rate / self.ceiling_rate(name)

    @property
    def passes(self) -> int:
        """How many times the row was measured."""
        return max((len(counts) for counts in self.repetitions.values()), default=1)

    def by_pass(self, name: str) -> list[Sequence[float]]:
        """The samples of a contestant, pass by pass."""
        samples, start, parts = self.samples[name], 0, []
        for count in self.repetitions.get(name, (len(samples),)):
            parts.append(samples[start : start + count])
            start += count
        return parts

    def with_pass(self, row: Row) -> Row:
        """This row with the samples of another pass appended, for the contestants that both have timed."""
        both = [name for name in self.samples if name in row.samples]
        return replace(
            self,
            samples={name: [*self.samples[name], *row.samples[name]] for name in both},
            repetitions={name: [len(part) for side in (self, row) for part in side.by_pass(name)] for name in both},
            notes={**self.notes, **row.notes},
        )

    def as_json(self) -> dict[str, Any]:
        samples = {name: [float(f"{time:.{_DIGITS}g}") for time in times] for name, times in self.samples.items()}
        return asdict(self) | {"samples": samples}

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> Row:
        """The row that :meth:`as_json` returned.

        Raises:
            ValueError: a field is missing or malformed.
        """
        try:
            made = cls(**{item.name: row[item.name] for item in fields(cls)})
            made.key  # noqa: B018  # reads the sizes
        except (KeyError, TypeError, AttributeError):
            raise ValueError("a row lacks a field") from None
        return made


def _short(value: float | str) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)
