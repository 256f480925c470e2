"""Tables on terminals and elsewhere."""

from typing import IO, TYPE_CHECKING

from hubexport.errors import printable

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

# Wide enough for every row when no terminal says how wide it is: a line that is cut or folded cannot be searched.
_UNBOUNDED_COLUMNS = 1000


def cell(text: str) -> "Text":
    """Returns a stranger's text for a table: what looks like markup in it is none."""
    from rich.text import Text

    return Text(printable(text))


def table_console(stream: IO[str]) -> "Console":
    """Returns what prints a table whole to a stream, as wide as a terminal is."""
    from rich.console import Console

    return Console(file=stream, width=None if stream.isatty() else _UNBOUNDED_COLUMNS)
