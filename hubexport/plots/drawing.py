"""What all plots have in common: how matplotlib is run, and plain axes. Sizes and places are in pixels at 72 dpi."""

from collections.abc import Callable
import io
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# matplotlib's settings are global.
_DRAWING = threading.Lock()


def draw_svg(width: float, height: float, draw: Callable[["Figure"], None], *, font_size: float) -> bytes:
    """Returns what matplotlib draws, as SVG with texts as text: the same bytes each time, in any thread.

    Args:
        width, height: the figure's size.
        draw: draws into an empty figure without a background.
        font_size: the font size unless `draw` says otherwise.
    """
    # matplotlib takes a second to import.
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    written = io.BytesIO()
    with _DRAWING, matplotlib.rc_context():
        # Users may have settings for plots of their own.
        matplotlib.rcdefaults()
        matplotlib.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "hubexport", "font.size": font_size})
        figure = Figure(figsize=(width / 72, height / 72), dpi=72)
        FigureCanvasSVG(figure)
        figure.patch.set_visible(False)
        draw(figure)
        figure.savefig(written, format="svg", metadata={"Date": None, "Creator": None})
    return written.getvalue()


def add_plain_axes(figure: "Figure", left: float, top: float, right: float, bottom: float, *, grid: str) -> "Axes":
    """Adds axes without a frame or tick marks, with faint grid lines.

    Args:
        figure: where they are drawn.
        left, right: their edges, from the figure's left edge.
        top, bottom: their edges, from the figure's top edge.
        grid: names the grid lines.
    """
    width, height = figure.get_size_inches() * 72
    axes = figure.add_axes((left / width, 1 - bottom / height, (right - left) / width, (bottom - top) / height))
    axes.patch.set_visible(False)
    axes.grid(gid=grid, color="#808080", linewidth=0.5)
    axes.tick_params(length=0, pad=6)
    for spine in axes.spines.values():
        spine.set_visible(False)
    return axes


def add_marker(where: "Axes | Figure", x: float, y: float, name: str, zorder: float = 2) -> None:
    """Adds a marker for `inline_svg` to replace by a circle.

    Args:
        where: axes, for a place in their data, or a figure, for one in pixels from its lower left corner.
        x, y: the marker's place.
        name: the marker's name.
        zorder: the marker is drawn over everything with a lower value.
    """
    from matplotlib.lines import Line2D
    from matplotlib.transforms import IdentityTransform

    marker = Line2D([x], [y], marker="o", linestyle="none", gid=name, clip_on=False, zorder=zorder)
    if where.figure is where:
        marker.set_transform(IdentityTransform())
    where.add_artist(marker)
