"""Markdown on pages: it is shown completely, and hostile text does nothing."""

import time

from hypothesis import given, settings
from hypothesis import strategies as st
import pytest

from hubexport.site.markdown import MAX_MARKDOWN, RenderedMarkdown, highlight, render_markdown
from tests.html_tree import Element, tree

_SAFE = {
    "a": {"href", "class", "aria-label"},
    "div": {"class", "tabindex", "role", "aria-label"},
    "pre": {"class", "tabindex", "data-copy"},
    "span": {"class"},
    "th": {"scope", "class"},
    "td": {"class"},
    "ol": {"start"},
    **{f"h{level}": {"id"} for level in range(1, 7)},
    **{tag: set() for tag in ("p", "ul", "li", "em", "strong", "code", "br", "hr", "blockquote")},
    **{tag: set() for tag in ("table", "thead", "tbody", "tr")},
}


def _rendered(text: str, **options) -> RenderedMarkdown:
    return render_markdown(text, resolve={"other.md": "/hub/google/other.md"}.get, **options)


def _tree(text: str, **options) -> Element:
    return tree(_rendered(text, **options).html)


def _check_safe(root: Element) -> None:
    for element in root.all():
        assert element.tag in _SAFE, element.tag
        assert element.attributes.keys() <= _SAFE[element.tag], element.attributes
        if element.tag == "a":
            assert element["href"].startswith(("https://", "http://", "mailto:", "#doc-", "/hub/")), element["href"]


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("<script>alert(1)</script>", id="script"),
        pytest.param("a <img src=x onerror=alert(1)> b", id="inline"),
        pytest.param("<!-- task: x --> <script>alert(1)</script>", id="behind a comment"),
        pytest.param("<!-- task: --><script>alert(1)</script> -->", id="in a comment"),
        pytest.param("<!-- task: x\n<b>\n-->", id="long comment"),
        pytest.param("```html\n</code></pre><script>\n```", id="code"),
        pytest.param("```python\n'</span></code><script>'\n```", id="highlighted code"),
        pytest.param('```"onclick=alert(1)\nx\n```', id="language"),
        pytest.param("    </code><script>", id="indented code"),
        pytest.param("`<script>`", id="code span"),
        pytest.param("# <script>\n\n# \"'><script>", id="headings"),
        pytest.param("|<b>|x|\n|-:|:-:|\n|<i>|`<b>`|", id="table"),
        pytest.param('[a](https://x/"onclick="alert(1) "ti\\"tle")', id="attributes"),
    ],
)
def test_no_html_gets_through(text):
    """Tags are shown as text."""
    root = _tree(text)
    _check_safe(root)
    assert not any(element.tag in ("script", "img", "b", "i") for element in root.all())


@pytest.mark.parametrize(
    "target",
    [
        *("javascript:alert(1)", "JavaScript:alert(1)", "java&#x0A;script:alert(1)", "vbscript:x", "data:text/html,x"),
        *("file:///etc/passwd", "//evil.example/x", "/\\evil.example", "\\\\evil.example", "https:/\\[", "#", "blob:x"),
        *("missing.md", "../../../etc/passwd", "about:blank", "http://[::1"),
    ],
)
def test_links_lead_only_to_the_web_to_mail_and_into_the_site(target):
    """Only the text of other links stays."""
    for text in (f"[words]({target})", f"[words](<{target}>)", f"![words]({target})", f"[words][1]\n\n[1]: <{target}>"):
        root = _tree(text)
        assert not list(root.all("a")), text
        assert "words" in root.text


@pytest.mark.parametrize("target", ["//evil.example/x", "//evil.example", "//a@evil.example:1/x"])
def test_links_to_other_hosts_are_never_resolved_as_local(target):
    """`resolve` is not even called."""
    assert not list(tree(render_markdown(f"[words]({target})", resolve=lambda href: href).html).all("a"))


@pytest.mark.parametrize(
    ("target", "href"),
    [
        ("https://arxiv.org/abs/1801.04381", "https://arxiv.org/abs/1801.04381"),
        ("http://a.example/?b=c&d=e", "http://a.example/?b=c&d=e"),
        ("mailto:a@b.example", "mailto:a@b.example"),
        ("other.md", "/hub/google/other.md"),
        ("#changelog", "#doc-changelog"),
    ],
)
def test_good_links_stay(target, href):
    """Like those of modules' pages."""
    link = _tree(f"[some *words*]({target} 'title')").one("a")
    assert (link["href"], link.text, set(link.attributes)) == (href, "some words", {"href"})


def test_images_become_links():
    """Pages load nothing from other hosts. Links are never nested."""
    root = _tree("![a cat](https://x.example/cat.png) ![](https://x.example/dog.png)")
    assert [(link["href"], link.text) for link in root.all("a")] == [
        ("https://x.example/cat.png", "a cat"),
        ("https://x.example/dog.png", "image"),
    ]
    nested = _tree("[![a cat](https://x.example/cat.png)](https://y.example)").one("a")
    assert (nested["href"], nested.text, list(nested.all("a"))) == ("https://y.example", "a cat", [])
    assert _tree("[![cat](https://x.example/cat.png)](javascript:x)").one("a")["href"] == "https://x.example/cat.png"


def test_comments_for_programs_are_left_out():
    """In code, they stay."""
    text = "One\n<!-- task: image-classification -->\n<!-- format: hub -->\n\nTwo\n\n"
    text += "    <!-- a: b -->\n\n```\n<!-- task: x -->\n```"
    root = _tree(text)
    assert [part.text for part in root.all("p")] == ["One", "Two"]
    assert [part.text for part in root.all("pre")] == ["<!-- a: b -->", "<!-- task: x -->"]


def test_headings_are_below_those_of_the_page():
    """Levels never skip one on the way down, and every heading has its own id."""
    text = "# Title\n\n## Usage\n\n## Changelog\n\n#### Version 1\n\n#### Version 2\n\n## Usage\n\n## 日本\n\n## !"
    rendered = _rendered(text, level=3, without_title=True)
    assert [(heading.level, heading.anchor) for heading in rendered.headings] == [
        (3, "doc-usage"),
        (3, "doc-changelog"),
        (4, "doc-version-1"),
        (4, "doc-version-2"),
        (3, "doc-usage-2"),
        (3, "doc-日本"),
        (3, "doc-section"),
    ]
    root = tree(rendered.html)
    found = [element for element in root.all() if element.tag[0] == "h" and element.tag[1:].isdigit()]
    assert [(int(one.tag[1:]), one["id"]) for one in found] == [(one.level, one.anchor) for one in rendered.headings]
    assert found[0].one("a", class_="anchor")["href"] == "#doc-usage"
    assert "Title" not in root.text


def test_headings_never_share_an_id():
    """Even if one heading's text is the id that another would get."""
    anchors = [heading.anchor for heading in _rendered("# a\n\n# a-2\n\n# a\n\n# a\n\n# a-2").headings]
    assert len(set(anchors)) == 5, anchors


def test_headings_have_no_level_beyond_the_sixth():
    """HTML has no more."""
    text = "# a\n## b\n### c\n#### d\n##### e\n###### f"
    assert [heading.level for heading in _rendered(text, level=3).headings] == [3, 4, 5, 6, 6, 6]


def test_tables_scroll_in_a_box_and_have_no_styles():
    """Alignment becomes a class; the parser writes a style."""
    root = _tree("|a|b|c|\n|-|-:|:-:|\n|1|2|3|")
    box = root.one("div", class_="scroll")
    assert (box["tabindex"], box["role"]) == ("0", "region") and box["aria-label"]
    assert [cell.attributes.get("class") for cell in box.all("td")] == [None, "right", "center"]
    assert [cell["scope"] for cell in box.all("th")] == ["col"] * 3


def test_code_is_highlighted_and_not_changed():
    """Spans have Pygments' classes, and the text stays the same."""
    code = 'import tensorflow as tf\n\nx = "a < b & c"  # \'\n'
    root = _tree(f"```python\n{code}```")
    assert "".join(_texts(root.one("code"))) == code
    assert {"kn", "s2", "c1"} <= {span["class"] for span in root.all("span")}
    assert "data-copy" in root.one("pre").attributes


def _texts(element: Element) -> list[str]:
    return [text for child in element.children for text in ([child] if isinstance(child, str) else _texts(child))]


@pytest.mark.parametrize("language", ["", "brainfuck", "html", "PYTHON3.99"])
def test_code_of_other_languages_stays_plain(language):
    """Other lexers may be slow."""
    assert highlight("<a>", language) == "&lt;a&gt;"


_HARD = {
    "brackets": "[",
    "images": "![",
    "links": "[a](",
    "emphasis": "*a_ ",
    "tags": "<a",
    "headings": "# a\n",
    "quotes": "> ",
    "table": "|a" * 300 + "\n" + "|-" * 300 + "\n" + "|b" * 300 + "\n",
    "strings": "```python\n" + "f'{" * 6000 + "\n```\n",
}


@pytest.mark.parametrize("text", [pytest.param(text, id=name) for name, text in _HARD.items()])
@pytest.mark.slow
def test_no_text_takes_long(text):
    """The length limit bounds the time even of the texts that parsers find hardest."""
    start = time.process_time()
    _rendered((text * MAX_MARKDOWN)[:MAX_MARKDOWN])
    assert time.process_time() - start < 8


@settings(deadline=None, max_examples=150)
@given(
    st.lists(
        st.sampled_from(
            ["[", "](", ")", "!", "<", ">", '"', "'", "`", "```", "\n", "\n\n", "#", "# ", "|", "|-|\n", "*", "_", "&"]
            + ["a", "javascript:x", "https://x", "//", "\\", "<!-- a: b -->", "<script>", "- ", "1. ", "    ", ": "]
        ),
        max_size=40,
    ).map("".join)
)
@pytest.mark.fuzz
def test_nothing_unsafe_comes_out_whatever_goes_in(text):
    """The HTML is well-formed, and has only expected elements and attributes."""
    _check_safe(_tree(text))
