"""The charts on the catalogue: drawings for wide and for narrow screens, and what readers should know."""

from collections.abc import Sequence
import dataclasses

from markupsafe import Markup

from hubexport.site.accuracy_chart import accuracy_chart, chart_title
from hubexport.site.accuracy_points import AccuracyPoint, Cost


@dataclasses.dataclass(frozen=True)
class CatalogueChart:
    """A chart of accuracy over the cost of one image.

    Attributes:
        title: what the chart shows.
        wide: an `<svg>` element for wide screens, see `accuracy_chart`; empty if no point has this cost.
        narrow: one for phones.
        notes: where the figures come from, and what the points mean, in sentences.
    """

    title: str
    wide: Markup
    narrow: Markup
    notes: Sequence[str]


def catalogue_chart(points: Sequence[AccuracyPoint], cost: Cost) -> CatalogueChart:
    """Draws a chart, and explains it.

    Args:
        points: the networks.
        cost: `multiply_adds` or `latency`.
    """
    wide, narrow = (Markup(accuracy_chart(points, cost, narrow=narrow)) for narrow in (False, True))
    return CatalogueChart(chart_title(cost), wide, narrow, _notes(points, cost))


def _notes(points: Sequence[AccuracyPoint], cost: Cost) -> list[str]:
    """Returns what readers of a chart should know: where its figures come from, and what its points mean."""
    drawn = [point for point in points if point.cost(cost) is not None]
    solid = "Solid points are modules on this hub that have these figures."
    if others := [point for point in points if point.presence != "here"]:
        present = any(point.presence != "absent" for point in others)
        solid += f" Hollow ones are not on this hub{', or are here untrained or with other values' * present}."
    notes = [solid, "Accuracy and latency are the publishers', accuracy on ImageNet's validation images."]
    if counted := dict.fromkeys(name for point in drawn for name in point.counted):
        notes.append(f"Where the publishers give no {' or '.join(counted)}, hubexport counted them.")
    notes.append(
        "Labels are image sizes; that at the end of a line also tells networks of one colour apart, like 0.75 (224)."
    )
    if left_out := [point.variant for point in points if point.cost(cost) is None]:
        names = ", ".join(left_out[:2]) + (f" and {len(left_out) - 2} more" if len(left_out) > 2 else "")
        notes.append(f"Not shown, for lack of a published {cost.replace('_', '-')}: {names}.")
    return notes
