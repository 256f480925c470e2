"""The files that pages load: the style sheet, scripts and the icon."""

from collections.abc import Mapping
import dataclasses
import functools
import hashlib
from importlib import resources


@dataclasses.dataclass(frozen=True)
class PageAsset:
    """A file that pages load.

    Attributes:
        path: its path below the root. It contains a hash of the content, so the content under a path never changes.
        content: its bytes.
    """

    path: str
    content: bytes

    @classmethod
    def of(cls, name: str, content: bytes) -> "PageAsset":
        """Returns the asset with a name like `style.css`."""
        stem, _, suffix = name.partition(".")
        return cls(f"-/{stem}-{hashlib.sha256(content).hexdigest()[:8]}.{suffix}", content)


@functools.cache
def page_assets(tfjs: bytes | None = None) -> Mapping[str, PageAsset]:
    """Returns the files that pages load, by name.

    Args:
        tfjs: the content of TF.js, as `tf.js`; None if pages do not run models.
    """
    folder = resources.files("hubexport.site") / "assets"
    names = ["style.css", "script.js", "tabs.js", "icon.svg", *(["try.js"] if tfjs is not None else [])]
    contents = {name: (folder / name).read_bytes() for name in names}
    contents["style.css"] += b"\n" + (folder / "chart.css").read_bytes()
    if tfjs is not None:
        contents["tf.js"] = tfjs
    return {name: PageAsset.of(name, content) for name, content in contents.items()}
