"""Tables, on terminals and in files."""

from typing import IO, TYPE_CHECKING, Any

from hubexport.errors import printable

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

# Without a terminal every row gets one line of any length: text tools cannot search lines that are cut or folded.
_UNBOUNDED_COLUMNS = 1000


def new_table(**options: Any) -> "Table":
    """Returns an empty table in hubexport's style; `options` are those of rich's tables."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    return Table(box=SIMPLE_HEAD, pad_edge=False, **options)


def cell(text: str) -> "Text":
    """Returns text from outside for a table's cell. rich does not interpret markup in it."""
    from rich.text import Text

    return Text(printable(text))


def print_table(table: "Table", stream: IO[str]) -> None:
    """Prints a table to a stream, as wide as its terminal, or with one line per row if it is not a terminal."""
    from rich.console import Console

    Console(file=stream, width=None if stream.isatty() else _UNBOUNDED_COLUMNS).print(table)


def print_text(text: str, stream: IO[str]) -> None:
    """Prints lines of text, wrapped to the stream's terminal; whole lines if it is not a terminal."""
    from rich.console import Console

    width = None if stream.isatty() else _UNBOUNDED_COLUMNS
    Console(file=stream, width=width, markup=False, highlight=False).print(text)
