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
# Placeholder colours: each is replaced by a colour of the page.
INK, MUTED, GRID = "#010203", "#010204", "#010205"
STANDS_FOR = {INK: "currentColor", MUTED: "var(--muted)", GRID: "var(--grid)"}
STANDS_FOR |= {f"#a1b2{hue:02x}": f"var(--series-{hue})" for hue in range(HUES)}
SIZE = (4.3, 2.9)  # in inches of 72 units: type is legible on a phone, where it is drawn at this size
ROOM = 45  # how many letters fit along the axis
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
    """The colour, the dashes and the marker of one series, so that colour alone rarely tells two series apart."""

    hue: int | None  # None for a control, which is grey
    dash: str
    marker: str

    @property
    def colour(self) -> str:
        """The placeholder of the series' colour in a plot."""
        return MUTED if self.hue is None else f"#a1b2{self.hue:02x}"

    @property
    def css(self) -> str:
        """The colour of the series on the page, for the style sheet."""
        return STANDS_FOR[self.colour]

    @property
    def style(self) -> object:
        """The dashes of the series' line, as Matplotlib takes them."""
        return (0, tuple(map(float, self.dash.split()))) if self.dash else "solid"


class PlotLine(NamedTuple):
    """One line of a plot: its points, and their intervals if there are any."""

    place: int  # the number of the series on the page
    look: Look
    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float] | None = None
    high: Sequence[float] | None = None


class PlotDot(NamedTuple):
    """One point of a plot, with its vertical interval."""

    place: int  # the number of the series on the page
    look: Look
    x: float
    y: float
    low: float
    high: float


def choose_looks(controls: Sequence[bool]) -> list[Look]:
    """A look for each series; 28 methods look different, and as many controls as there are dashes and markers.

    Args:
        controls: for each series, whether it is a control.
    """
    looks, hued, grey = [], 0, 0
    for control in controls:
        at = grey if control else hued
        hue = None if control else at % HUES
        dash = DASHES[(at + 1 if control else at % HUES + at // HUES) % len(DASHES)]
        looks.append(Look(hue, dash, MARKERS[(at + at // len(MARKERS)) % len(MARKERS)]))
        grey, hued = grey + control, hued + (not control)
    return looks


def lines_plot(
    key: str,
    lines: Sequence[PlotLine],
    x_title: str,
    y_title: str,
    *,
    ticks: Sequence[str] = (),
    within: Sequence[float] = (0.0,),
) -> Markup:
    """The SVG of a plot of lines over a common axis.

    Args:
        key: a prefix that makes names in the SVG unique on the page.
        ticks: names for the positions 0, 1, ... if these are not numbers.
        within: values that the vertical axis covers in any case.
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
            _name_ticks(axes, ticks)
        return done()


def _name_ticks(axes: Axes, ticks: Sequence[str]) -> None:
    slant = sum(map(len, ticks)) > ROOM
    axes.set_xticks(range(len(ticks)), list(map(_shorten, ticks)))
    axes.tick_params("x", rotation=30 * slant)
    for label in axes.get_xticklabels():
        label.set_horizontalalignment("right" if slant else "center")
    axes.grid(visible=False, axis="x")


def dots_plot(key: str, dots: Sequence[PlotDot], x_title: str, y_title: str) -> Markup:
    """The SVG of a plot of points with vertical intervals over a logarithmic axis."""
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


def _draw_line(axes: Axes, line: PlotLine, marked: bool) -> None:
    look, gid = line.look, f"series-{line.place}"
    if line.low is not None and line.high is not None:
        axes.fill_between(line.x, line.low, line.high, color=look.colour, alpha=0.13, linewidth=0, gid=f"band-{gid}")
    style: dict[str, Any] = {"color": look.colour, "linestyle": look.style, "gid": gid}
    if marked or len(line.x) < 2:
        style |= {"marker": look.marker, "markersize": 4, "markeredgewidth": 0}
    axes.plot(line.x, line.y, **style)


@contextmanager
def _axes(key: str) -> Iterator[tuple[Axes, Callable[[], Markup]]]:
    """Axes to draw into, and a function that turns them into SVG."""
    with mpl.rc_context(SETTINGS), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a glyph that is missing here is there in the reader's fonts
        figure = Figure(figsize=SIZE, layout="constrained")
        yield figure.add_subplot(), lambda: _markup(key, figure)


def _markup(key: str, figure: Figure) -> Markup:
    stream = io.BytesIO()
    FigureCanvasSVG(figure).print_svg(stream, metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    root = ElementTree.fromstring(stream.getvalue())
    _drop_foreign(root)
    _mark_elements(root, key)
    for name in ("width", "height"):
        del root.attrib[name]
    root.set("aria-hidden", "true")
    root.set("focusable", "false")
    ElementTree.register_namespace("", SVG)
    ElementTree.register_namespace("xlink", XLINK)
    text = ElementTree.tostring(root, encoding="unicode")
    return Markup(re.sub(r"\s*\n\s*", " ", text))


def _drop_foreign(root: ElementTree.Element) -> None:
    """Remove style sheets and metadata: a style would hold for the whole page, and the page's policy forbids it."""
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag in (f"{{{SVG}}}style", f"{{{SVG}}}metadata"):
                parent.remove(child)


def _mark_elements(root: ElementTree.Element, key: str) -> None:
    """Make names unique on the page, drop those that nothing uses, mark the series, and use the page's colours."""
    used = set(re.findall(r"(?:url\(|href=\")#([\w.-]+)", ElementTree.tostring(root, encoding="unicode")))
    for element in root.iter():
        name = element.attrib.pop("id", None)
        if name in used:
            element.set("id", f"{key}-{name}")
        elif name and name.startswith(("series-", "band-")):
            element.set("data-series", name.rpartition("-")[2])
            element.set("class", name.partition("-")[0])
        for attribute, value in element.attrib.items():
            element.set(attribute, _to_theme(attribute, value, key))


def _to_theme(attribute: str, value: str, key: str) -> str:
    if attribute.endswith("href"):
        return value.replace("#", f"#{key}-", 1)
    if attribute not in ("style", "clip-path"):
        return value
    value = re.sub(r"url\(#", f"url(#{key}-", value)
    value = re.sub(r"#[0-9a-f]{6}", lambda match: STANDS_FOR.get(match[0], match[0]), value)
    return re.sub(
        r"font-family:[^;]*;?\s*|font: ([\d.]+px)[^;]*", lambda f: f"font-size: {f[1]}" if f[1] else "", value
    )


def _shorten(text: str, most: int = 16) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"
