"""HTML as a tree, for tests. Parsing fails if an element is not closed where it should be."""

from collections.abc import Iterator
import dataclasses
from html.parser import HTMLParser

_VOID = {"br", "hr", "img", "input", "link", "meta", "wbr"}


@dataclasses.dataclass
class Element:
    """An element with its children in order."""

    tag: str
    attributes: dict[str, str | None]
    children: list["Element | str"] = dataclasses.field(default_factory=list)

    def all(self, tag: str = "", **attributes: str) -> Iterator["Element"]:
        """Yields elements below this one, in order. `class_` matches one class of several; `_` in names means `-`."""
        for child in self.children:
            if isinstance(child, Element):
                if tag in ("", child.tag) and all(child.has(name, value) for name, value in attributes.items()):
                    yield child
                yield from child.all(tag, **attributes)

    def has(self, name: str, value: str) -> bool:
        """Tells whether an attribute has a value, or includes it among its classes."""
        found = self.attributes.get(name.rstrip("_").replace("_", "-"))
        return value in (found or "").split() if name == "class_" else found == value

    def one(self, tag: str = "", **attributes: str) -> "Element":
        """Returns the only such element below this one."""
        [found] = self.all(tag, **attributes)
        return found

    def __getitem__(self, name: str) -> str:
        """Returns an attribute's value."""
        value = self.attributes[name]
        assert value is not None
        return value

    @property
    def text(self) -> str:
        """The text that people read."""
        return " ".join("".join(child if isinstance(child, str) else child.text for child in self.children).split())

    @property
    def raw_text(self) -> str:
        """The text with all its spaces and lines, like that of a program."""
        return "".join(child if isinstance(child, str) else child.raw_text for child in self.children)

    def rows(self) -> list[list[str]]:
        """Returns the texts of the cells in a table's body."""
        return [[cell.text for cell in row.all() if cell.tag in ("th", "td")] for row in self.one("tbody").all("tr")]


class _Parser(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open = [Element("", {})]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len(dict(attrs)) == len(attrs), "an attribute twice"
        self.open[-1].children.append(element := Element(tag, dict(attrs)))
        if tag not in _VOID:
            self.open.append(element)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.open[-1].children.append(Element(tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop().tag == tag

    def handle_data(self, data: str) -> None:
        self.open[-1].children.append(data)


def tree(text: str) -> Element:
    """Parses a page or a part of one."""
    parser = _Parser()
    parser.feed(text)
    parser.close()
    [root] = parser.open
    return root
