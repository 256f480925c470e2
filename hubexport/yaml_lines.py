"""Safe YAML with line numbers: plain data only, without tags, aliases, merge keys or duplicate keys."""

import dataclasses
import errno
from pathlib import Path
from typing import Any

import yaml

from hubexport.errors import ConfigError
from hubexport.system.regular_files import read_regular_file

Location = tuple[str | int, ...]

_MAX_BYTES = 1 << 20
# Floats hold every whole number up to here.
_MAX_NUMBER = 1 << 53
_COLLECTION_TAGS = ("tag:yaml.org,2002:seq", "tag:yaml.org,2002:map")


@dataclasses.dataclass(frozen=True)
class Place:
    """A line of a file, counted from 1; shown as `path:line`."""

    path: Path
    line: int

    def __str__(self) -> str:
        return f"{self.path}:{self.line}"


@dataclasses.dataclass(frozen=True)
class Document:
    """A parsed file.

    Attributes:
        path: the file.
        value: the content as dictionaries, lists, texts, numbers, booleans and None.
        places: the line of each key and list item, by the keys and indices that lead there.
    """

    path: Path
    value: Any
    places: dict[Location, Place]

    def place(self, location: Location) -> Place:
        """Returns the place of a location, or of the nearest one around it."""
        while location and location not in self.places:
            location = location[:-1]
        return self.places.get(location, Place(self.path, 1))

    def over(self, base: "Document") -> "Document":
        """Returns this document, with keys that it lacks taken from another one, in nested mappings too."""
        return Document(self.path, _over(self.value, base.value), {**base.places, **self.places})


def _over(value: Any, base: Any) -> Any:
    if not isinstance(value, dict) or not isinstance(base, dict):
        return value
    return base | {key: _over(item, base[key]) if key in base else item for key, item in value.items()}


class _Loader(yaml.SafeLoader):
    """The safe loader without aliases, which could make a small file a huge value."""

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
            raise yaml.composer.ComposerError(None, None, "aliases are not allowed", mark)
        return super().compose_node(parent, index)


def read_yaml(path: Path) -> Document:
    """Reads one YAML file.

    Raises:
        ConfigError: the file cannot be read, is not YAML, or uses YAML that is not allowed here.
    """
    try:
        text = read_regular_file(path, _MAX_BYTES)
    except OSError as error:
        if error.errno == errno.EFBIG:
            raise _rejection(path, 1, str(error.strerror)) from None
        raise ConfigError(
            f"cannot read {path}", why=str(error.strerror), fix="use a small text file that you may read"
        ) from None
    places: dict[Location, Place] = {}
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        value = _value(path, loader, node, (), places) if node else None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise _rejection(path, mark.line + 1 if mark else 1, error.problem or str(error)) from None
    except (yaml.YAMLError, ValueError) as error:
        raise _rejection(path, 1, str(error).splitlines()[0]) from None
    except RecursionError:
        raise _rejection(path, 1, "it is nested too deeply") from None
    return Document(path, value, places)


def _value(path: Path, loader: _Loader, node: yaml.Node, at: Location, places: dict[Location, Place]) -> Any:
    places.setdefault(at, Place(path, node.start_mark.line + 1))
    if not isinstance(node, yaml.ScalarNode) and node.tag not in _COLLECTION_TAGS:
        raise _rejection(path, node.start_mark.line + 1, f"the tag {node.tag!r} is not allowed")
    if isinstance(node, yaml.SequenceNode):
        return [_value(path, loader, item, (*at, i), places) for i, item in enumerate(node.value)]
    if not isinstance(node, yaml.MappingNode):
        return _scalar(path, loader, node)
    mapping: dict[str, Any] = {}
    for key_node, value_node in node.value:
        line = key_node.start_mark.line + 1
        if not isinstance(key_node, yaml.ScalarNode) or not key_node.value.isprintable():
            raise _rejection(path, line, "a key must be a word")
        key = key_node.value
        if key in mapping:
            raise _rejection(path, line, f"key '{key}' is given twice")
        places[(*at, key)] = Place(path, line)
        mapping[key] = _value(path, loader, value_node, (*at, key), places)
    return mapping


def _scalar(path: Path, loader: _Loader, node: yaml.Node) -> str | int | float | bool | None:
    line = node.start_mark.line + 1
    try:
        value = loader.construct_object(node)
    except yaml.YAMLError:
        raise
    # If a text is not what its tag says, the library raises whatever error its conversion meets.
    except Exception:
        raise _rejection(path, line, f"the value is not what its tag {node.tag!r} says, or too large") from None
    # A number of thousands of digits cannot even be printed.
    if isinstance(value, int) and abs(value) > _MAX_NUMBER:
        raise _rejection(path, line, "the number is too large")
    if value is not None and not isinstance(value, (str, int, float)):
        raise _rejection(path, line, "the value must be a text, a number, true or false; put a date in quotes")
    return value


def _rejection(path: Path, line: int, why: str) -> ConfigError:
    return ConfigError(f"{path}:{line}: not a valid variant", why=why, fix="correct this line of the YAML file")
