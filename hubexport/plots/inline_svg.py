"""Turns matplotlib's SVG into an element of a page: without inline styles, with tooltips, links and accessible names.

Names that begin with `chart-`, given to artists by `set_gid`, become classes for a style sheet.
"""

from collections.abc import Iterator, Mapping, Sequence
import dataclasses
import re
from typing import Literal
from xml.etree import ElementTree

CLASS = "chart-"

# The styles to keep of matplotlib's: the style sheet does not set them, and browsers have other defaults.
_KEPT_STYLES = ("fill", "stroke", "stroke-width", "stroke-linecap", "stroke-linejoin", "font-size", "text-anchor")
_BLACK = "#000000"


@dataclasses.dataclass(frozen=True)
class Circle:
    """A circle that replaces a matplotlib marker; `colour` is for pages without a style sheet, `radius` in pixels."""

    colour: str
    radius: float


@dataclasses.dataclass(frozen=True)
class Mark:
    """What a named artist becomes in the page.

    Attributes:
        classes: its classes in the style sheet.
        circle: replaces the artist, a marker; None keeps its shapes.
        label: its tooltip and accessible name; None if other text says it.
        link: the address that it leads to, if it has a label; None for no link.
    """

    classes: str
    circle: Circle | None = None
    label: str | None = None
    link: str | None = None


def inline_svg(
    svg: bytes,
    marks: Mapping[str, Mark],
    name: str,
    title: str,
    description: str,
    *,
    role: Literal["group", "img"] = "group",
) -> str:
    """Returns an `<svg>` element for a page, without styles, scripts or a fixed size.

    Args:
        svg: as `draw_svg` returns it.
        marks: by the names of their artists. Those with a label are drawn last, in this order.
        name: begins the element's ids; must be unique in the page.
        title: the plot's title.
        description: what the plot shows, in words.
        role: `group` lets screen readers step through the labelled marks; `img` makes the plot one image to them.
    """
    drawn = ElementTree.fromstring(svg)
    title_id, description_id = f"{CLASS}{name}-title", f"{CLASS}{name}-description"
    root = ElementTree.Element("svg", {"viewBox": drawn.attrib["viewBox"], "class": "chart"})
    root.attrib |= {"role": role, "aria-labelledby": title_id, "aria-describedby": description_id}
    ElementTree.SubElement(root, "title", {"id": title_id}).text = title
    ElementTree.SubElement(root, "desc", {"id": description_id}).text = description
    # Screen readers say each mark's label, and need no scales.
    backdrop = ElementTree.SubElement(root, "g", {"aria-hidden": "true"})
    labelled: dict[str, list[ElementTree.Element]] = {}
    for element in drawn:
        if _tag(element) == "g":
            backdrop.extend(_kept(element, marks, labelled))
    root.extend(_labelled(mark, labelled[name], role) for name, mark in marks.items() if name in labelled)
    return ElementTree.tostring(root, encoding="unicode")


def _tag(element: ElementTree.Element) -> str:
    return element.tag.rpartition("}")[2]


def _kept(
    element: ElementTree.Element, marks: Mapping[str, Mark], labelled: dict[str, list[ElementTree.Element]]
) -> Iterator[ElementTree.Element]:
    """Yields what the page keeps of an element; the shapes of marks with a label go to `labelled` instead."""
    name = element.get("id", "")
    mark = marks.get(name)
    # A path without any point has no `d`.
    if _tag(element) == "text" or "d" in element.attrib:
        yield _shape(element)
    elif _tag(element) == "g":
        if mark and mark.circle:
            shapes = [_circle(element, mark.circle)]
        else:
            shapes = [kept for child in element for kept in _kept(child, marks, labelled)]
        if mark and mark.label is not None:
            labelled[name] = shapes
        elif mark and mark.circle:
            shapes[0].set("class", mark.classes)
            yield shapes[0]
        elif name.startswith(CLASS):
            group = ElementTree.Element("g", {"class": name})
            group.extend(shapes)
            yield group
        else:
            yield from shapes


def _circle(marker: ElementTree.Element, circle: Circle) -> ElementTree.Element:
    """Returns a circle where matplotlib has put its marker."""
    [use] = (child for child in marker.iter() if _tag(child) == "use")
    place = {"cx": use.attrib["x"], "cy": use.attrib["y"], "r": f"{circle.radius:.3f}"}
    return ElementTree.Element("circle", {**place, "fill": circle.colour})


def _labelled(mark: Mark, shapes: Sequence[ElementTree.Element], role: str) -> ElementTree.Element:
    facts = {"class": mark.classes}
    if role == "group":
        facts["aria-label"] = str(mark.label)
        facts |= {"role": "img"} if mark.link is None else {"href": mark.link}
    wrapper = ElementTree.Element("g" if mark.link is None else "a", facts)
    ElementTree.SubElement(wrapper, "title").text = mark.label
    wrapper.extend(shapes)
    return wrapper


def _shape(element: ElementTree.Element) -> ElementTree.Element:
    styles = dict(re.findall(r"([\w-]+):\s*([^;]+)", element.get("style", "")))
    facts = {name: styles[name] for name in _KEPT_STYLES if name in styles}
    for colour in ("fill", "stroke"):
        if facts.get(colour) == _BLACK:
            facts[colour] = "currentColor"
    if _tag(element) == "path":
        facts["d"] = " ".join(element.attrib["d"].split())
    else:
        facts = {"fill": "currentColor", **facts, "x": element.attrib["x"], "y": element.attrib["y"]}
        if not element.get("transform", "rotate(-0 ").startswith("rotate(-0 "):
            facts["transform"] = element.attrib["transform"]
    shape = ElementTree.Element(_tag(element), facts)
    shape.text = element.text if _tag(element) == "text" else None
    return shape
