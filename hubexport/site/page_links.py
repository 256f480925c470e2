"""Where the links on one page lead."""

from collections.abc import Callable, Sequence
import dataclasses

from hubexport.release.index import ArtifactRecord


@dataclasses.dataclass(frozen=True)
class PageLinks:
    """The links on one page.

    Attributes:
        root: what the addresses of pages and files begin with, without a slash at the end: the site's path, or the way
            up from the page.
        slash: what the addresses of pages end with.
        deployments: returns the deployments of a module to link to.
    """

    root: str
    slash: str
    deployments: Callable[[ArtifactRecord], Sequence[ArtifactRecord]]

    def link(self, record: ArtifactRecord) -> str:
        """Returns the address of the page of a module or deployment."""
        return f"{self.root}/{record.handle}{self.slash}"


def way_up(path: str) -> str:
    """Returns the way from a folder below the root to the root.

    Example:
        >>> way_up("/"), way_up("/google/"), way_up("/google/imagenet/")
        ('.', '..', '../..')
    """
    return "/".join([".."] * (path.count("/") - 1)) or "."
