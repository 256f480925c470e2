"""What checks of modules and of deployments ask for alike."""

import contextlib
from typing import TypeVar

from hubexport.formats.manifest import MANIFEST, changed_files
from hubexport.modules.identity import ModuleIdentity
from hubexport.progress import Progress
from hubexport.system.digests import tree_files
from hubexport.verify.expected_values import ExpectedValues
from hubexport.verify.finding import Finding, NotApplicable, nothing_wrong
from hubexport.verify.layer_errors import ImageErrors
from hubexport.verify.sample_images import SampleImages, SampleKind

_Context = TypeVar("_Context", bound="ArtifactContext")


class ArtifactContext:
    """Everything about one module or deployment that checks ask for, until the context ends.

    Args:
        module: it, and what it should be.
        expected: the values that it should have; None if no checkpoint was given.
        photographs: the user's, resized for it; None if none were given.
        progress: is told when a runtime starts.
    Attributes:
        module: the same.
        expected: the same.
        measurements: the errors of its outputs, by the kind of sample images, as far as checks have measured them.
    """

    def __init__(
        self,
        module: ModuleIdentity,
        expected: ExpectedValues | None,
        photographs: SampleImages | None,
        progress: Progress,
    ) -> None:
        self.module = module
        self.expected = expected
        self.measurements: dict[SampleKind, list[ImageErrors]] = {}
        self._photographs = photographs
        self._progress = progress
        self._stack = contextlib.ExitStack()

    def __enter__(self: _Context) -> _Context:
        return self

    def __exit__(self, *exception: object) -> None:
        self._stack.close()

    @property
    def photographs(self) -> SampleImages:
        """The user's photographs.

        Raises:
            NotApplicable: none were given.
        """
        if self._photographs is None:
            raise NotApplicable("no photographs were given (--images)")
        return self._photographs

    def listed_digests(self) -> Finding:
        """Compares its files with those that its manifest lists.

        Raises:
            NotApplicable: it has no manifest.
        """
        directory, manifest = self.module.directory, self.module.manifest
        if manifest is None:
            raise NotApplicable(f"there is no {MANIFEST}")
        changed = changed_files(directory, tree_files(directory), manifest.sha256)
        count = len(manifest.sha256)
        matching = "1 file matches its" if count == 1 else f"{count} files match their"
        return nothing_wrong(changed, f"{matching} listed digest{'s' * (count != 1)}", "files")
