"""A hook for MkDocs and an extension for mkdocstrings, which mkdocs.yml names.

Pages may link to files outside `docs/`. In the repository such a link leads to the file; on the site, to a copy of it.
"""

from collections.abc import Iterator
import dataclasses
from pathlib import Path
import re
from typing import Any

import griffe
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files, InclusionLevel

# GitHub needs escaped pipes for code in tables; MkDocs would show the backslash.
_CODE = re.compile(r"`[^`\n]+`")
_LINK = re.compile(r"\[(?P<text>[^\]]*)\]\(\.\./(?P<path>[^)#]+)\)")
# Where the site has the copies.
_COPIES = "repository"

_SECTION = re.compile(r"(?<!\n)\n(?=(?:Args|Attributes|Example|Raises|Returns|Yields):\n)")


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """Adds the files that pages link to; MkDocs calls this."""
    pages = [page.content_string for page in files.documentation_pages()]
    for path in {path for page in pages for path in _linked_files(page, _repository(config))}:
        source = str(_repository(config) / path)
        copy = File.generated(config, f"{_COPIES}/{path}", abs_src_path=source, inclusion=InclusionLevel.NOT_IN_NAV)
        files.append(copy)
    return files


def on_page_markdown(markdown: str, *, config: MkDocsConfig, **_: object) -> str:
    """Adapts Markdown that is written for GitHub; MkDocs calls this.

    Links to files outside `docs/` point to the copies. Folders have no copy: links to them become plain text.
    """

    def adapted(link: re.Match[str]) -> str:
        target = _repository(config) / link["path"]
        if target.is_file():
            return f"[{link['text']}]({_COPIES}/{link['path']})"
        return link["text"] if target.is_dir() else link[0]

    return _LINK.sub(adapted, _CODE.sub(lambda code: code[0].replace(r"\|", "|"), markdown))


def _linked_files(markdown: str, repository: Path) -> Iterator[str]:
    for link in _LINK.finditer(markdown):
        if (repository / link["path"]).is_file():
            yield link["path"]


def _repository(config: MkDocsConfig) -> Path:
    return Path(config.config_file_path).parent


class ReadableDocstrings(griffe.Extension):
    """Lets Griffe read docstrings without blank lines between sections, and shortens pydantic's types."""

    def on_instance(self, *, obj: griffe.Object, **_: Any) -> None:
        """Griffe calls this for each function, class and module."""
        if obj.docstring:
            obj.docstring.value = _SECTION.sub("\n\n", obj.docstring.value)

    def on_attribute_instance(self, *, attr: griffe.Attribute, **_: Any) -> None:
        """Griffe calls this for each attribute."""
        attr.annotation = _without_constraints(attr.annotation)


def _without_constraints(annotation: Any) -> Any:
    """Replaces `Annotated[X, …]` by `X`, also within other types."""
    match annotation:
        case griffe.ExprSubscript() if annotation.canonical_path.endswith("Annotated"):
            return _without_constraints(annotation.slice.elements[0])
        case griffe.ExprSubscript():
            return dataclasses.replace(annotation, slice=_without_constraints(annotation.slice))
        case griffe.ExprTuple():
            return dataclasses.replace(annotation, elements=[*map(_without_constraints, annotation.elements)])
        case griffe.ExprBinOp():
            left, right = map(_without_constraints, (annotation.left, annotation.right))
            return dataclasses.replace(annotation, left=left, right=right)
    return annotation
