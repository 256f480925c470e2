"""HTML as a tree, read with Python's own parser, which insists on every element being closed where it ought to be."""

from collections.abc import Iterator
import dataclasses
from html.parser import HTMLParser

_VOID = {"br", "hr", "img", "input", "link", "meta", "wbr"}


@dataclasses.dataclass
class Element:
    """An element, and what is in it in the order of the page."""

    tag: str
    attributes: dict[str, str | None]
    children: list["Element | str"] = dataclasses.field(default_factory=list)

    def all(self, tag: str = "", **attributes: str) -> Iterator["Element"]:
        """What is below it, in the order of the page; `class_` stands for `class`, and is one of the classes."""
        for child in self.children:
            if isinstance(child, Element):
                if tag in ("", child.tag) and all(child.has(name, value) for name, value in attributes.items()):
                    yield child
                yield from child.all(tag, **attributes)

    def has(self, name: str, value: str) -> bool:
        """Tells whether it has an attribute with a value."""
        found = self.attributes.get(name.rstrip("_").replace("_", "-"))
        return value in (found or "").split() if name == "class_" else found == value

    def one(self, tag: str = "", **attributes: str) -> "Element":
        """The only such element below it."""
        [found] = self.all(tag, **attributes)
        return found

    def __getitem__(self, name: str) -> str:
        """The value of an attribute."""
        value = self.attributes[name]
        assert value is not None
        return value

    @property
    def text(self) -> str:
        """What people read."""
        return " ".join("".join(child if isinstance(child, str) else child.text for child in self.children).split())

    def rows(self) -> list[list[str]]:
        """The cells of a table's body, in words."""
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
    """Reads a whole page, or a part of one."""
    parser = _Parser()
    parser.feed(text)
    parser.close()
    [root] = parser.open
    return root
