"""Renders untrusted Markdown as harmless HTML."""

from collections.abc import Callable, Collection, Iterator, MutableMapping, Sequence
import dataclasses
import re
from typing import Any
from urllib.parse import urlsplit

from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.rules_block import StateBlock
from markdown_it.rules_core import StateCore
from markdown_it.token import Token
from markdown_it.utils import OptionsDict
from markupsafe import Markup, escape
from pygments import highlight as _highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import BashLexer, JavascriptLexer, JsonLexer, PythonLexer, YamlLexer

# The languages of modules' pages. Others of Pygments' hundreds of lexers may be slow on hostile text.
_LEXERS = {
    "python": PythonLexer,
    "py": PythonLexer,
    "bash": BashLexer,
    "sh": BashLexer,
    "shell": BashLexer,
    "javascript": JavascriptLexer,
    "js": JavascriptLexer,
    "json": JsonLexer,
    "yaml": YamlLexer,
}
_MAX_HIGHLIGHTED = 20_000
# Longer texts are not rendered. hubexport's own are a tenth of this; hostile ones of this length take a second.
MAX_MARKDOWN = 60_000
# Metadata on tfhub.dev's pages: one comment a line.
_METADATA = re.compile(r"<!-- *[\w-]+: [^>]* -->\s*")
_WEB, _MAIL = ("http", "https"), "mailto"

# Begins the ids of the text's headings, and of no other element in the page.
PREFIX = "doc-"

# Returns the address that a link without a scheme leads to; None if it leads nowhere.
Resolve = Callable[[str], str | None]


@dataclasses.dataclass(frozen=True)
class Heading:
    """A heading of a text: its id for links, its level in the page (2 to 6), and its text."""

    anchor: str
    level: int
    text: str


@dataclasses.dataclass(frozen=True)
class ShownElsewhere:
    """What a page shows in other places than a text, so that it is left out of the text.

    Attributes:
        sections: headings in lower case, each with its own text: what follows up to the next heading. The empty one
            stands for the paragraph in the line below the title, in which pages describe themselves.
        programs: headings in lower case, in whose own text programs are left out.
    """

    sections: Collection[str] = ()
    programs: Collection[str] = ()


@dataclasses.dataclass(frozen=True)
class RenderedMarkdown:
    """Rendered Markdown, and its headings in order."""

    html: Markup
    headings: tuple[Heading, ...]


def render_markdown(
    text: str,
    *,
    resolve: Resolve,
    level: int = 2,
    without_title: bool = False,
    elsewhere: ShownElsewhere = ShownElsewhere(),
) -> RenderedMarkdown:
    """Renders Markdown without HTML or images; links lead only to the web, to mail addresses and into this site.

    Args:
        text: CommonMark with tables, and `<!-- key: value -->` for programs.
        resolve: resolves links without a scheme.
        level: the level of the highest headings in the HTML, from 2 to 6.
        without_title: leave out the heading that the text begins with.
        elsewhere: what to leave out.
    """
    environment: dict[str, Any] = {"resolve": resolve}
    tokens = _PARSER.parse(text, environment)
    if without_title and tokens and tokens[0].type == "heading_open":
        described = "" in elsewhere.sections and len(tokens) > 3 and tokens[3].type == "paragraph_open"
        has_description = described and tokens[0].map and tokens[3].map and tokens[3].map[0] == tokens[0].map[1]
        del tokens[: 6 if has_description else 3]  # Every heading is three tokens, and so is every paragraph.
    tokens = list(_without(tokens, elsewhere))
    headings = tuple(_number_headings(tokens, level))
    return RenderedMarkdown(Markup(_PARSER.renderer.render(tokens, _PARSER.options, environment)), headings)


def _without(tokens: Sequence[Token], elsewhere: ShownElsewhere) -> Iterator[Token]:
    heading = None
    for number, token in enumerate(tokens):
        if token.type == "heading_open" and not token.level:
            heading = tokens[number + 1].content.strip().casefold()
        is_program = token.type in ("fence", "code_block") and heading in elsewhere.programs
        if heading not in elsewhere.sections and not is_program:
            yield token


def highlight(code: str, language: str = "python") -> Markup:
    """Returns code as HTML, colored by Pygments' classes; plain if it is long or in an unknown language."""
    lexer = _LEXERS.get(language.lower())
    if lexer is None or len(code) > _MAX_HIGHLIGHTED:
        return escape(code)
    return Markup(_highlight(code, lexer(stripnl=False), HtmlFormatter(nowrap=True)))


def _number_headings(tokens: Sequence[Token], highest: int) -> Iterator[Heading]:
    """Gives headings ids, and levels that never skip one on the way down."""
    above: list[int] = []
    known: dict[str, int] = {}
    # A heading is three tokens: its start, its text and its end.
    for opening, content, closing in zip(tokens, tokens[1:], tokens[2:]):
        if opening.type != "heading_open":
            continue
        written = int(opening.tag[1:])
        above = [*(higher for higher in above if higher < written), written]
        level = min(highest + len(above) - 1, 6)
        text = "".join(child.content for child in content.children or ())
        anchor = _anchor(text, known)
        opening.tag = f"h{level}"
        opening.attrSet("id", anchor)
        closing.tag = opening.tag
        closing.meta["anchor"], closing.meta["text"] = anchor, text
        yield Heading(anchor, level, text)


def _anchor(text: str, known: dict[str, int]) -> str:
    """Returns a unique id for a heading; `known` counts the headings for each id."""
    name = anchor = PREFIX + (re.sub(r"\W+", "-", text.lower()).strip("-")[:60] or "section")
    while anchor in known:
        known[name] += 1
        anchor = f"{name}-{known[name]}"
    known[anchor] = 1
    return anchor


def _skip_metadata(state: StateBlock, start: int, end: int, silent: bool) -> bool:
    """A block rule of markdown-it: skips a line of metadata."""
    line = state.src[state.bMarks[start] + state.tShift[start] : state.eMarks[start]]
    if not _METADATA.fullmatch(line):
        return False
    state.line = start + (not silent)
    return True


def _tame_links(state: StateCore) -> None:
    """A core rule of markdown-it: images become links, and links that lead nowhere become text."""
    for token in state.tokens:
        if token.children:
            token.children = list(_tamed(token.children, state.env["resolve"]))


def _tamed(tokens: Sequence[Token], resolve: Resolve) -> Iterator[Token]:
    kept: list[bool] = []
    for token in tokens:
        if token.type == "link_open":
            target = _target(str(token.attrGet("href") or ""), resolve)
            kept.append(target is not None)
            if target is not None:
                token.attrs = {"href": target}
                yield token
        elif token.type == "link_close":
            if kept.pop():
                yield token
        elif token.type == "image":
            text = Token("text", "", 0, content=token.content or "image")
            # A link cannot contain another.
            target = None if any(kept) else _target(str(token.attrGet("src") or ""), resolve)
            if target is None:
                yield text
            else:
                yield from (Token("link_open", "a", 1, attrs={"href": target}), text, Token("link_close", "a", -1))
        else:
            yield token


def _target(href: str, resolve: Resolve) -> str | None:
    """Returns where a link leads; None if it is forbidden or leads nowhere."""
    try:
        parts = urlsplit(href)
    except ValueError:
        return None
    if parts.scheme:
        return href if parts.scheme == _MAIL or parts.scheme in _WEB and parts.hostname else None
    if parts.netloc:
        return None
    if href.startswith("#"):
        return f"#{PREFIX}{href[1:]}" if len(href) > 1 else None
    return resolve(href)


class _Renderer(RendererHTML):
    """Writes code that scrolls and can be copied, tables that scroll, and headings with links to themselves."""

    def fence(self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: MutableMapping[str, Any]) -> str:
        """Renders code between fences."""
        language = tokens[idx].info.split(maxsplit=1)[0] if tokens[idx].info.strip() else ""
        return _code(tokens[idx].content, language)

    def code_block(self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: MutableMapping[str, Any]) -> str:
        """Renders indented code."""
        return _code(tokens[idx].content, "")

    def heading_close(
        self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: MutableMapping[str, Any]
    ) -> str:
        """Ends a heading with a link to itself."""
        anchor, text = escape(tokens[idx].meta["anchor"]), escape(tokens[idx].meta["text"])
        return f' <a class="anchor" href="#{anchor}" aria-label="Link to: {text}">#</a></{tokens[idx].tag}>\n'

    def table_open(self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: MutableMapping[str, Any]) -> str:
        """Begins a table."""
        return '<div class="scroll" tabindex="0" role="region" aria-label="Table"><table>\n'

    def table_close(
        self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: MutableMapping[str, Any]
    ) -> str:
        """Ends a table."""
        return "</table></div>\n"

    def th_open(self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: MutableMapping[str, Any]) -> str:
        """Begins a column's header."""
        return f'<th scope="col"{_alignment(tokens[idx])}>'

    def td_open(self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: MutableMapping[str, Any]) -> str:
        """Begins a cell."""
        return f"<td{_alignment(tokens[idx])}>"


def _alignment(cell: Token) -> str:
    """Returns the alignment as a class; the parser has it as an inline style, which pages must not have."""
    side = str(cell.attrGet("style") or "").removeprefix("text-align:")
    return f' class="{side}"' if side in ("right", "center") else ""


def _code(code: str, language: str) -> str:
    return f'<pre class="code" tabindex="0" data-copy><code>{highlight(code, language)}</code></pre>\n'


# Threads share it: parsing keeps no state in it.
_PARSER = MarkdownIt("commonmark", {"html": False}, renderer_cls=_Renderer).enable("table")
_PARSER.validateLink = lambda url: True  # type: ignore[method-assign]  # `_tame_links` checks links.
_PARSER.block.ruler.before("paragraph", "metadata", _skip_metadata, {"alt": ["paragraph"]})
_PARSER.core.ruler.push("tame_links", _tame_links)
