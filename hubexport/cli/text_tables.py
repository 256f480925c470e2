"""Tables on terminals, in pipes and in files. No cell is ever cut."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
import dataclasses
from typing import IO, Literal

from hubexport.errors import printable

# A piece of a line, and how terminals show it.
_Piece = tuple[str, str]

# Spaces before each line, between two columns, and before what stands below a row.
_EDGE, _BETWEEN, _BELOW = 1, 2, 4
# The columns that the labels of facts take.
_LABELS = 20
# Without a terminal, a sentence stands in its row if the row is not longer than this.
_LONGEST_ROW = 120


@dataclasses.dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes:
        heading: what stands above its cells. Narrow terminals wrap it between words.
        cells: its text in each row.
        importance: the least important columns are left out first where a terminal is too narrow; None for columns
            that are never left out. The first column names the rows, and always has None.
        kind: a `name` is never wrapped. A `figure` is aligned to the right; narrow terminals wrap what follows it, like
            `at 299 px`, and `words`. A `sentence` ends its row, or stands below it where the row would be too long;
            only the last column may be of this kind.
        styles: rich's styles for some texts, on terminals.
    """

    heading: str
    cells: Sequence[str]
    importance: int | None = None
    kind: Literal["name", "figure", "words", "sentence"] = "name"
    styles: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def width(self) -> int:
        """Returns the width that wraps nothing."""
        return max(map(_length, [self.heading, *self.cells]))

    def narrowest(self) -> int:
        """Returns the least width that cuts nothing."""
        cells = self.cells if self.kind == "name" else _words(self.cells)
        return max(map(_length, [*_words([self.heading]), *cells]))


def print_table(columns: Sequence[Column], stream: IO[str], everything: str = "--format json has all") -> None:
    """Prints a table, and an empty line below it.

    A terminal that is too narrow gets fewer columns, and a line that names the others. If it is too narrow even for the
    columns that are never left out, each row is a block of lines. Without a terminal, each row is one line.

    Args:
        columns: the columns, each with the same number of cells.
        stream: where to print.
        everything: where users find the columns that are left out.
    """
    columns = [dataclasses.replace(one, cells=[*map(printable, one.cells)]) for one in columns]
    terminal = _terminal_width(stream)
    *grid, last = columns
    sentences = last if last.kind == "sentence" else None
    if sentences is None:
        grid = columns
    shown = grid if terminal is None else _fitting(grid, terminal)
    if shown is None:
        assert terminal is not None, "every table fits where there is no terminal"
        lines = _blocks(columns, terminal)
    else:
        rule = "─" if (getattr(stream, "encoding", None) or "utf-8").lower().startswith("utf") else "-"
        lines = _rows(shown, sentences, terminal, rule)
    _print_lines(lines, stream, styled=terminal is not None)
    if missing := [one.heading for one in grid if shown is not None and one not in shown]:
        print_text(f"columns left out on this terminal: {', '.join(missing)}; {everything}", stream)
    print(file=stream)


def print_text(text: str, stream: IO[str]) -> None:
    """Prints lines of text, wrapped between words on a terminal."""
    terminal = _terminal_width(stream)
    for line in text.splitlines():
        print(*([line] if terminal is None else _wrapped(line, terminal)), sep="\n", file=stream)


def print_fact(label: str, text: str, stream: IO[str]) -> None:
    """Prints a line with a label and a text. Terminals get several lines where the text is too long for one."""
    terminal, start = _terminal_width(stream), f"{f'  {label}':{_LABELS}}"
    first, *others = [text] if terminal is None else _wrapped(text, terminal - _LABELS)
    indent = _LABELS
    if terminal is not None and max(map(_length, [first, *others])) > terminal - _LABELS:
        # A name is longer than the room beside the label.
        first, others, indent = "", _wrapped(text, terminal - _BELOW), _BELOW
    print((start + first).rstrip(), *(" " * indent + line for line in others), sep="\n", file=stream)


def _terminal_width(stream: IO[str]) -> int | None:
    if not stream.isatty():
        return None
    from rich.console import Console

    return Console(file=stream).width


def _fitting(columns: Sequence[Column], terminal: int) -> list[Column] | None:
    """Returns the columns that a terminal has room for; None if it lacks room for those that are never left out."""
    shown = list(columns)
    while _table_width([one.narrowest() for one in shown]) > terminal:
        if all(one.importance is None for one in shown):
            return None
        # Of columns that are equally important, the last one goes first.
        least = min(reversed(shown), key=lambda one: float("inf") if one.importance is None else one.importance)
        shown.remove(least)
    return shown


def _rows(
    columns: Sequence[Column], sentences: Column | None, terminal: int | None, rule: str
) -> Iterator[Sequence[_Piece]]:
    """Yields the lines of a table with a row for each row."""
    widths = _widths(columns, terminal)
    room = (_LONGEST_ROW if terminal is None else terminal) - _table_width(widths) - _BETWEEN
    texts = sentences.cells if sentences else [""] * len(columns[0].cells)
    # Where their heading has no room, sentences have none either.
    fits = sentences is not None and _length(sentences.heading) <= room
    beside = [text if fits and _length(text) <= room else "" for text in texts]
    heading = sentences.heading if sentences and any(beside) else ""
    headings = [_wrapped(one.heading, width) for one, width in zip(columns, widths, strict=True)]
    yield from _row(columns, widths, headings, heading, above=True)
    if sentences and not heading:
        yield [(" " * _BELOW + sentences.heading, "")]
    end = max(map(_length, [heading, *beside]))
    yield [(" " * _EDGE + rule * (_table_width(widths) - _EDGE + (_BETWEEN + end if end else 0)), "")]
    for row, text in enumerate(texts):
        cells = [
            [one.cells[row]] if one.kind == "name" else _wrapped(one.cells[row], width)
            for one, width in zip(columns, widths, strict=True)
        ]
        yield from _row(columns, widths, cells, beside[row])
        if beside[row] != text:
            below = [text] if terminal is None else _wrapped(text, terminal - _BELOW)
            yield from ([(" " * _BELOW + line, "")] for line in below)


def _widths(columns: Sequence[Column], terminal: int | None) -> list[int]:
    """Returns the widths of columns, which are narrowed where a terminal needs it."""
    widths, narrowest = [one.width() for one in columns], [one.narrowest() for one in columns]
    while terminal is not None and _table_width(widths) > terminal and widths != narrowest:
        widest = max(range(len(widths)), key=lambda number: widths[number] - narrowest[number])
        widths[widest] -= 1
    return widths


def _row(
    columns: Sequence[Column], widths: Sequence[int], cells: Sequence[list[str]], end: str, *, above: bool = False
) -> Iterator[list[_Piece]]:
    """Yields the lines of one row, whose cells may have several.

    Args:
        columns: the columns.
        widths: their widths.
        cells: the lines of each cell.
        end: what follows the first line.
        above: whether the cells are headings, which stand on the line below them, and have no style.
    """
    height = max(map(len, cells))
    for number in range(height):
        line: list[_Piece] = [(" " * _EDGE, "")]
        for column, width, texts in zip(columns, widths, cells, strict=True):
            text = ([""] * (height - len(texts)) + texts if above else texts + [""] * (height - len(texts)))[number]
            space = " " * (width - _length(text))
            style = "" if above else column.styles.get(text, "")
            line += [(space, ""), (text, style)] if column.kind == "figure" else [(text, style), (space, "")]
            line.append((" " * _BETWEEN, ""))
        if number == (height - 1 if above else 0):
            line.append((end, ""))
        yield line


def _blocks(columns: Sequence[Column], terminal: int) -> Iterator[Sequence[_Piece]]:
    """Yields the lines of a table with a block of lines for each row: its name, and a line for each other column."""
    name, *others = columns
    for row, text in enumerate(name.cells):
        yield [(" " * _EDGE + text, "")]
        for column in others:
            cell, heading = column.cells[row], f"{' ' * _BELOW}{column.heading}:"
            if _length(f"{heading} {cell}") <= terminal:
                yield [(f"{heading} ", ""), (cell, column.styles.get(cell, ""))]
            else:
                yield [(heading, "")]
                yield from ([(" " * 2 * _BELOW + part, "")] for part in _wrapped(cell, terminal - 2 * _BELOW))


def _print_lines(lines: Iterable[Sequence[_Piece]], stream: IO[str], *, styled: bool) -> None:
    if not styled:
        for line in lines:
            print("".join(text for text, _ in line).rstrip(), file=stream)
        return
    from rich.console import Console
    from rich.text import Text

    console = Console(file=stream)
    for line in lines:
        shown = Text.assemble(*line)
        shown.rstrip()
        console.print(shown, soft_wrap=True)


def _table_width(widths: Collection[int]) -> int:
    return _EDGE + sum(widths) + _BETWEEN * (len(widths) - 1)


def _words(texts: Iterable[str]) -> list[str]:
    return [word for text in texts for word in text.split()]


def _wrapped(text: str, width: int) -> list[str]:
    """Breaks a text between words into lines of a width. A word that is longer gets a line of its own."""
    if _length(text) <= width:
        return [text]
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}" if lines[-1] else word
        if lines[-1] and _length(longer) > width:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines


def _length(text: str) -> int:
    """Returns how many columns of a terminal a text takes."""
    if text.isascii():
        return len(text)
    from rich.cells import cell_len

    return cell_len(text)
