"""Plots as SVG that takes its colours and its type from the page, the same bytes for the same numbers."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple
from xml.etree import ElementTree

import matplotlib as mpl
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

HUES = 7  # series colours of the style sheet
DASHES = ("", "6 2.2", "2 1.8", "7 2 1.5 2")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
# Colours that stand for those of the page, and are replaced by them.
INK, MUTED, GRID = "#010203", "#010204", "#010205"
STANDS_FOR = {INK: "currentColor", MUTED: "var(--muted)", GRID: "var(--grid)"}
STANDS_FOR |= {f"#a1b2{hue:02x}": f"var(--series-{hue})" for hue in range(HUES)}
SIZE = (4.3, 2.9)  # in inches of 72 units: type is legible on a phone, where it is drawn at this size
ROOM = 45  # letters that have room along the axis
SVG, XLINK = "http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"
SETTINGS: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "an8flower",
    "text.parse_math": False,
    "font.size": 9.5,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.8,
    "axes.formatter.useoffset": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.unicode_minus": True,
    "grid.color": GRID,
    "grid.linewidth": 0.7,
    "text.color": INK,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "lines.linewidth": 1.5,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
}


class Look(NamedTuple):
    """How a series is told from the others: by colour and dashes or marker, so that colour alone never decides."""

    hue: int | None  # None for a control, which is grey
    dash: str
    marker: str

    @property
    def colour(self) -> str:
        """What stands for its colour in a plot."""
        return MUTED if self.hue is None else f"#a1b2{self.hue:02x}"

    @property
    def css(self) -> str:
        """Its colour on the page."""
        return STANDS_FOR[self.colour]

    @property
    def style(self) -> object:
        """Its dashes in a plot."""
        return (0, tuple(map(float, self.dash.split()))) if self.dash else "solid"


class Line(NamedTuple):
    """A series: its number on the page, its points, and their intervals where there are some."""

    place: int
    look: Look
    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float] | None = None
    high: Sequence[float] | None = None


class Dot(NamedTuple):
    """A point with a name."""

    place: int
    look: Look
    x: float
    y: float
    low: float
    high: float


def looks(controls: Sequence[bool]) -> list[Look]:
    """The look of each of several series; 28 are told apart, and as many controls as there are dashes and markers."""
    found, hued, grey = [], 0, 0
    for control in controls:
        at = grey if control else hued
        hue = None if control else at % HUES
        dash = DASHES[(at + 1 if control else at % HUES + at // HUES) % len(DASHES)]
        found.append(Look(hue, dash, MARKERS[(at + at // len(MARKERS)) % len(MARKERS)]))
        grey, hued = grey + control, hued + (not control)
    return found


def lines_plot(
    key: str,
    lines: Sequence[Line],
    x_title: str,
    y_title: str,
    *,
    ticks: Sequence[str] = (),
    within: Sequence[float] = (0.0,),
) -> Markup:
    """Lines over a common axis.

    Args:
        ticks: names of the places 0, 1, ... where these are no numbers.
        within: values that the vertical axis has in any case.
    """
    with _axes(key) as (axes, done):
        axes.set_xlabel(x_title)
        axes.set_ylabel(y_title)
        axes.update_datalim([(x, y) for x in lines[0].x[:1] for y in within])
        for line in lines:
            _draw_line(axes, line, marked=bool(ticks))
        if all(float(x).is_integer() for line in lines for x in line.x):
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        if ticks:
            slant = sum(map(len, ticks)) > ROOM
            axes.set_xticks(range(len(ticks)), list(map(_short, ticks)))
            axes.tick_params("x", rotation=30 * slant)
            for label in axes.get_xticklabels():
                label.set_horizontalalignment("right" if slant else "center")
            axes.grid(visible=False, axis="x")
        return done()


def dots_plot(key: str, dots: Sequence[Dot], x_title: str, y_title: str) -> Markup:
    """Points with vertical intervals over a logarithmic axis."""
    with _axes(key) as (axes, done):
        axes.set_xlabel(x_title)
        axes.set_ylabel(y_title)
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.minorticks_off()
        for dot in dots:
            look = dot.look
            axes.plot([dot.x] * 2, [dot.low, dot.high], color=look.colour, linewidth=1, gid=f"series-{dot.place}")
            axes.plot(
                [dot.x], [dot.y], look.marker, color=look.colour, markersize=5.5, gid=f"series-{dot.place}", mew=0
            )
        return done()


def _draw_line(axes: Axes, line: Line, marked: bool) -> None:
    look, gid = line.look, f"series-{line.place}"
    if line.low is not None and line.high is not None:
        axes.fill_between(line.x, line.low, line.high, color=look.colour, alpha=0.13, linewidth=0, gid=f"band-{gid}")
    style: dict[str, Any] = {"color": look.colour, "linestyle": look.style, "gid": gid}
    if marked or len(line.x) < 2:
        style |= {"marker": look.marker, "markersize": 4, "markeredgewidth": 0}
    axes.plot(line.x, line.y, **style)


@contextmanager
def _axes(key: str) -> Iterator[tuple[Axes, Callable[[], Markup]]]:
    """Axes to draw into, and what makes SVG of them."""
    with mpl.rc_context(SETTINGS), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a glyph that is missing here is there in the reader's fonts
        figure = Figure(figsize=SIZE, layout="constrained")
        yield figure.add_subplot(), lambda: _markup(key, figure)


def _markup(key: str, figure: Figure) -> Markup:
    stream = io.BytesIO()
    FigureCanvasSVG(figure).print_svg(stream, metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    root = ElementTree.fromstring(stream.getvalue())
    _drop_foreign(root)
    _rename(root, key)
    for name in ("width", "height"):
        del root.attrib[name]
    root.set("aria-hidden", "true")
    root.set("focusable", "false")
    ElementTree.register_namespace("", SVG)
    ElementTree.register_namespace("xlink", XLINK)
    text = ElementTree.tostring(root, encoding="unicode")
    return Markup(re.sub(r"\s*\n\s*", " ", text))


def _drop_foreign(root: ElementTree.Element) -> None:
    """Style sheets in a picture would hold for the whole page, and its policy forbids them."""
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag in (f"{{{SVG}}}style", f"{{{SVG}}}metadata"):
                parent.remove(child)


def _rename(root: ElementTree.Element, key: str) -> None:
    """Names that are unique on the page and only where they are used; series are marked; colours become the page's."""
    used = set(re.findall(r"(?:url\(|href=\")#([\w.-]+)", ElementTree.tostring(root, encoding="unicode")))
    for element in root.iter():
        name = element.attrib.pop("id", None)
        if name in used:
            element.set("id", f"{key}-{name}")
        elif name and name.startswith(("series-", "band-")):
            element.set("data-series", name.rpartition("-")[2])
            element.set("class", name.partition("-")[0])
        for attribute, value in element.attrib.items():
            element.set(attribute, _themed(attribute, value, key))


def _themed(attribute: str, value: str, key: str) -> str:
    if attribute.endswith("href"):
        return value.replace("#", f"#{key}-", 1)
    if attribute not in ("style", "clip-path"):
        return value
    value = re.sub(r"url\(#", f"url(#{key}-", value)
    value = re.sub(r"#[0-9a-f]{6}", lambda found: STANDS_FOR.get(found[0], found[0]), value)
    return re.sub(
        r"font-family:[^;]*;?\s*|font: ([\d.]+px)[^;]*", lambda f: f"font-size: {f[1]}" if f[1] else "", value
    )


def _short(text: str, most: int = 16) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"
