"""Makes what matplotlib writes fit for a page whose policy allows no inline styles, and its points links.

Names that begin with `chart-`, given to what is drawn by `set_gid`, become classes of a style sheet.
"""

from collections.abc import Iterator, Mapping
import dataclasses
import re
from xml.etree import ElementTree

CLASS = "chart-"

_SVG = "http://www.w3.org/2000/svg"
# Of matplotlib's styles, what is neither in the style sheet nor what a browser would do anyway.
_KEPT_STYLES = ("fill", "stroke", "stroke-width", "stroke-linecap", "stroke-linejoin", "font-size", "text-anchor")
_BLACK = "#000000"


@dataclasses.dataclass(frozen=True)
class LinkedMark:
    """A circle in place of a marker of matplotlib's.

    Attributes:
        classes: of the style sheet.
        colour: where there is no style sheet.
        radius: in units of the view box.
        label: what it tells those who stay on it, or cannot see it; None if that is told elsewhere.
        link: where it leads; None if nowhere.
    """

    classes: str
    colour: str
    radius: float
    label: str | None = None
    link: str | None = None


def inlined(svg: bytes, marks: Mapping[str, LinkedMark], name: str, title: str, description: str) -> str:
    """Returns an `<svg>` element to be put into a page.

    Args:
        svg: as matplotlib writes it.
        marks: by the names that their markers were given. Those with a label come in this order.
        name: begins the element's ids; another one for each picture of a page.
        title: of the picture.
        description: of the picture.
    """
    drawn = ElementTree.fromstring(svg)
    title_id, description_id = f"{CLASS}{name}-title", f"{CLASS}{name}-description"
    root = ElementTree.Element("svg", {"xmlns": _SVG, "viewBox": drawn.attrib["viewBox"], "class": "chart"})
    root.attrib |= {"role": "group", "aria-labelledby": title_id, "aria-describedby": description_id}
    ElementTree.SubElement(root, "title", {"id": title_id}).text = title
    ElementTree.SubElement(root, "desc", {"id": description_id}).text = description
    # Those who do not see it are told each point's figures, and need no scales.
    backdrop = ElementTree.SubElement(root, "g", {"aria-hidden": "true"})
    told: dict[str, ElementTree.Element] = {}
    for element in drawn:
        if _tag(element) == "g":
            backdrop.extend(_cleaned(element, marks, told))
    root.extend(told[mark] for mark in marks if mark in told)
    return ElementTree.tostring(root, encoding="unicode")


def _tag(element: ElementTree.Element) -> str:
    return element.tag.rpartition("}")[2]


def _cleaned(
    element: ElementTree.Element, marks: Mapping[str, LinkedMark], told: dict[str, ElementTree.Element]
) -> Iterator[ElementTree.Element]:
    """Yields what is kept of an element; marks with a label go to `told`."""
    name = element.get("id", "")
    if name in marks:
        circle = _circle(element, marks[name])
        if marks[name].label is None:
            yield circle
        else:
            told[name] = circle
    elif _tag(element) == "g":
        children = [kept for child in element for kept in _cleaned(child, marks, told)]
        if name.startswith(CLASS):
            group = ElementTree.Element("g", {"class": name})
            group.extend(children)
            yield group
        else:
            yield from children
    elif _tag(element) in ("path", "text"):
        yield _shape(element)


def _circle(marker: ElementTree.Element, mark: LinkedMark) -> ElementTree.Element:
    """Returns a mark, where matplotlib has put its marker."""
    [use] = (child for child in marker.iter() if _tag(child) == "use")
    circle = ElementTree.Element("circle", {"cx": use.attrib["x"], "cy": use.attrib["y"], "r": f"{mark.radius:.3f}"})
    circle.set("fill", mark.colour)
    if mark.label is None:
        circle.set("class", mark.classes)
        return circle
    facts = {"class": mark.classes, "aria-label": mark.label}
    facts |= {"role": "img"} if mark.link is None else {"href": mark.link}
    told = ElementTree.Element("g" if mark.link is None else "a", facts)
    ElementTree.SubElement(told, "title").text = mark.label
    told.append(circle)
    return told


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
