"""Tables, on terminals and in files."""

from collections.abc import Collection, Container, Iterable, Mapping, Sequence
from typing import IO, TYPE_CHECKING, Any

from hubexport.errors import printable

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

# Without a terminal every row gets one line of any length: text tools cannot search lines that are cut or folded.
_UNBOUNDED_COLUMNS = 1000
# Spaces at both edges of a table of figures, and between two columns.
_EDGES, _BETWEEN = 2, 2


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


def print_columns(columns: Mapping[str, Sequence[str]], stream: IO[str], texts: Container[str] = ()) -> None:
    """Prints a table of figures to a stream, without ever cutting one.

    Where a terminal is too narrow, headings and cells are wrapped between words. Where that is not enough, the columns
    are in several tables, one below the other, each of which begins with the first column.

    Args:
        columns: the cells of each column, by its heading. The first column names the rows, and is not wrapped.
        stream: where to print.
        texts: the headings of columns that are texts; figures are aligned to the right.
    """
    from rich.console import Console

    terminal = Console(file=stream).width if stream.isatty() else _UNBOUNDED_COLUMNS
    first, *others = columns
    narrowest = {heading: _longest_word([heading, *cells]) for heading, cells in columns.items()}
    narrowest[first] = max(map(len, [first, *columns[first]]))
    blocks: list[list[str]] = [[first]]
    for heading in others:
        if len(blocks[-1]) > 1 and _table_width([narrowest[one] for one in [*blocks[-1], heading]]) > terminal:
            blocks.append([first])
        blocks[-1].append(heading)
    for block in blocks:
        widths = {heading: max(map(len, [heading, *columns[heading]])) for heading in block}
        while _table_width(widths.values()) > terminal and widths != {one: narrowest[one] for one in block}:
            widths[max(block, key=lambda one: widths[one] - narrowest[one])] -= 1
        table = new_table(collapse_padding=True)
        for heading in block:
            table.add_column(heading, justify="left" if heading in texts else "right", width=widths[heading])
        for cells in zip(*(columns[heading] for heading in block), strict=True):
            table.add_row(*cells)
        # A terminal that is narrower still wraps the lines itself.
        Console(file=stream, width=max(terminal, _table_width(widths.values()))).print(table)


def _longest_word(texts: Iterable[str]) -> int:
    return max(len(word) for text in texts for word in text.split())


def _table_width(widths: Collection[int]) -> int:
    return _EDGES + sum(widths) + _BETWEEN * (len(widths) - 1)


def print_text(text: str, stream: IO[str]) -> None:
    """Prints lines of text, wrapped to the stream's terminal; whole lines if it is not a terminal."""
    from rich.console import Console

    width = None if stream.isatty() else _UNBOUNDED_COLUMNS
    Console(file=stream, width=width, markup=False, highlight=False).print(text)
