"""How figures look, and how they are saved so that the same data give the same bytes.

A variant has one colour, one line style and one marker in every figure. The colours of the well-known variants stand
out from white (contrast of at least 3.5) and come from Paul Tol's palettes, darkened where they were too pale; line
style and marker tell the variants apart in grey and for colour-blind readers.
"""

import hashlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from itertools import count
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_pdf import FigureCanvasPdf
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from PIL import Image

from kvformer.files import write_bytes

Dash = tuple[float, tuple[float, ...] | None]

SOLID: Dash = (0, None)
DASHED: Dash = (0, (5, 2))
DASH_DOT: Dash = (0, (6, 1.5, 1.2, 1.5))
DOTTED: Dash = (0, (1.2, 1.4))
LONG_DASH: Dash = (0, (9, 2.5))
DASH_DOT_DOT: Dash = (0, (6, 1.5, 1.2, 1.5, 1.2, 1.5))


@dataclass(frozen=True)
class VariantStyle:
    """Colour, line style and marker of a variant."""

    colour: str
    dash: Dash
    marker: str

    @property
    def line(self) -> dict[str, Any]:
        """Keyword arguments of `Axes.plot` for a curve."""
        return {"color": self.colour, "linestyle": self.dash}

    @property
    def point(self) -> dict[str, Any]:
        """Keyword arguments of `Axes.plot` for a marked point: filled with the colour, edged in white."""
        return {"color": self.colour, "marker": self.marker, "markeredgecolor": "white", "linestyle": "none"}


KNOWN = {
    "qkv": VariantStyle("#004488", SOLID, "o"),
    "kv": VariantStyle("#BB5566", DASHED, "s"),
    "kv_pos": VariantStyle("#8D690D", DASH_DOT, "^"),
    "q_kv": VariantStyle("#009988", DOTTED, "D"),
    "k": VariantStyle("#6F2C91", LONG_DASH, "v"),
    "k_pos": VariantStyle("#2976AD", DASH_DOT_DOT, "P"),
}
OTHER_COLOURS = (
    "#332288", "#117733", "#882255", "#999933", "#AA4499", "#222222", "#EE7733", "#777777", "#663333", "#88AA00"
)  # fmt: skip
OTHER_DASHES = (DASHED, DASH_DOT, DOTTED, LONG_DASH, DASH_DOT_DOT, SOLID)
OTHER_MARKERS = ("X", "<", ">", "p", "h", "8", "d")

GREY = "#666666"
FAINT = "#BBBBBB"
BAND_ALPHA = 0.18
FORMATS = ("png", "svg", "pdf")
PNG_DPI = 200
WIDTH = 7.2
"""Width of a full-width figure in inches: that of a printed text block, so that fonts keep their size in points."""

RC: Any = {
    "axes.axisbelow": True,
    "axes.edgecolor": "#444444",
    "axes.formatter.useoffset": False,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.labelsize": 9,
    "axes.linewidth": 0.7,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 9.5,
    "axes.unicode_minus": True,
    "figure.dpi": PNG_DPI,
    "figure.facecolor": "white",
    "figure.titlesize": 12,
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "grid.color": "#E4E4E4",
    "grid.linewidth": 0.6,
    "image.interpolation": "nearest",
    "legend.fontsize": 9,
    "legend.frameon": False,
    "legend.handlelength": 3.2,
    "lines.linewidth": 1.6,
    "lines.markersize": 6,
    "pdf.fonttype": 42,
    "svg.fonttype": "path",
    "svg.hashsalt": "kvformer",
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
}


def variant_styles(names: Iterable[str]) -> dict[str, VariantStyle]:
    """The style of each variant: fixed for the well-known names, for others drawn from their name without repetition.

    A name that is not well known starts at a place of the palette given by its SHA-256 and moves on while that place is
    taken, in alphabetical order, so that the same set of variants always looks the same.
    """
    names = list(names)
    styles = {name: KNOWN[name] for name in names if name in KNOWN}
    taken: set[int] = set()
    places = len(OTHER_COLOURS)
    for name in sorted(set(names) - set(KNOWN)):
        start = int(hashlib.sha256(name.encode()).hexdigest(), 16) % places
        candidates = (turn * places + (start + step) % places for turn in count() for step in range(places))
        place = next(candidate for candidate in candidates if candidate not in taken)
        taken.add(place)
        styles[name] = VariantStyle(
            OTHER_COLOURS[place % places],
            OTHER_DASHES[place % len(OTHER_DASHES)],
            OTHER_MARKERS[place % len(OTHER_MARKERS)],
        )
    return {name: styles[name] for name in names}


@contextmanager
def figure_style() -> Iterator[None]:
    """Draw in the style of this package, whatever the user's own matplotlib settings are."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(RC)
        yield


def save(figure: Figure, stem: Path) -> list[Path]:
    """Write `figure` as stem.png, stem.svg and stem.pdf; equal figures give equal bytes. Call it within `figure_style`.

    The layout is solved once and each file is drawn once (`Figure.savefig` draws twice for each of them).
    """
    canvas = FigureCanvasAgg(figure)
    if engine := figure.get_layout_engine():
        engine.execute(figure)
        figure.set_layout_engine("none")
    buffers = {stem.with_name(f"{stem.name}.{extension}"): BytesIO() for extension in FORMATS}
    png, svg, pdf = buffers.values()
    _print_png(canvas, png)
    FigureCanvasSVG(figure).print_svg(svg, metadata={"Date": None})  # type: ignore[no-untyped-call]
    FigureCanvasPdf(figure).print_pdf(pdf, metadata={"CreationDate": None})  # type: ignore[no-untyped-call]
    for path, buffer in buffers.items():
        write_bytes(path, buffer.getvalue())
    return list(buffers)


def _print_png(canvas: FigureCanvasAgg, stream: BytesIO) -> None:
    """A picture of at most 256 colours: as sharp, a quarter of the size, and faster to compress than full colour."""
    canvas.draw()  # type: ignore[no-untyped-call]
    pixels = bytes(canvas.buffer_rgba())  # type: ignore[no-untyped-call]
    picture = Image.frombytes("RGBA", canvas.get_width_height(physical=True), pixels).convert("RGB")
    picture = picture.quantize(256, method=Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
    # The octree's mean colour of a white ground is a shade off.
    picture.putpalette([255 if value > 252 else value for value in picture.getpalette() or []])
    picture.save(stream, "png", dpi=(canvas.figure.dpi, canvas.figure.dpi))
