"""The content of a page about a result: words, numbers, pictures and an explorer."""

from __future__ import annotations

import dataclasses
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from somvae_ext.report.explorer import Explorer
from somvae_ext.report.metrics import MeasuredMetric

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_DPI = 120
_CSS_DPI = 96
_MOST_ITEMS = 20  # shown of a list in the config


class Picture(NamedTuple):
    """A picture of a result: its file's name, the PNG, and its size on the page, in CSS pixels."""

    name: str
    png: bytes
    width: int
    height: int

    @classmethod
    def from_figure(cls, name: str, figure: Figure) -> Picture:
        file = io.BytesIO()
        figure.savefig(file, format="png", dpi=_DPI, bbox_inches="tight")
        return cls.from_png(name, file.getvalue())

    @classmethod
    def from_png(cls, name: str, png: bytes) -> Picture:
        """Builds a picture from the bytes of a PNG.

        Raises:
            ValueError: the bytes are not a PNG, or a damaged one.
        """
        from PIL import Image

        try:
            with Image.open(io.BytesIO(png)) as image:
                width, height = image.size
                image.verify()
        except (OSError, SyntaxError) as error:
            raise ValueError(f"{name}: must be a PNG, got something else or a damaged one") from error
        return cls(name, png, round(width * _CSS_DPI / _DPI), round(height * _CSS_DPI / _DPI))


@dataclasses.dataclass(frozen=True)
class ResultContent:
    """A result, in words, numbers and pictures.

    Args:
        name: name of the result on the page.
        summary: a sentence about the result.
        facts: what was trained and on which data, by title.
        data: how the data were read, by title.
        config: every setting, by its place in the config.
        metrics: metrics by the split of the data.
        pictures: pictures in the order in which they are shown.
        explorer: explorer of the map or the codes; None if there are none.
        notes: sentences about what is not shown, and why.
    """

    name: str
    summary: str
    facts: Mapping[str, str]
    data: Mapping[str, str]
    config: Mapping[str, str]
    metrics: Mapping[str, Sequence[MeasuredMetric]]
    pictures: Sequence[Picture] = ()
    explorer: Explorer | None = None
    notes: Sequence[str] = ()


def flatten(config: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Flattens a nested config to one level: ``{"training.epochs": "20"}``."""
    flat: dict[str, str] = {}
    for key, value in config.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping) and value:
            flat |= flatten(value, f"{name}.")
        else:
            flat[name] = _readable(value)
    return flat


def _readable(value: Any) -> str:
    if value is None or value == [] or value == {} or value == ():
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (list, tuple)):
        shown = ", ".join(_readable(item) for item in value[:_MOST_ITEMS])
        return shown if len(value) <= _MOST_ITEMS else f"{shown} and {len(value) - _MOST_ITEMS} more"
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def hide_folders(content: ResultContent, paths: Iterable[str | Path]) -> ResultContent:
    """Replaces the paths of these files and folders by their names, because pages are passed on to other people."""
    known = {Path(path) for path in paths}
    known |= {path.resolve() for path in known}
    names = {str(path): path.name for path in known if len(path.parts) > 1}
    pattern = "|".join(re.escape(path) for path in sorted(names, key=len, reverse=True))
    if not pattern:
        return content

    def hide(text: str) -> str:
        return re.sub(rf"(?<![\w/.-])(?:{pattern})(?![\w-])", lambda match: names[match[0]], text)

    def hide_all(texts: Mapping[str, str]) -> dict[str, str]:
        return {title: hide(text) for title, text in texts.items()}

    return dataclasses.replace(
        content,
        facts=hide_all(content.facts),
        data=hide_all(content.data),
        config=hide_all(content.config),
        notes=[hide(note) for note in content.notes],
    )


def pictures_of(figures: Iterable[tuple[str, Figure]]) -> list[Picture]:
    """Returns the pictures of named figures."""
    return [Picture.from_figure(name, figure) for name, figure in figures]
