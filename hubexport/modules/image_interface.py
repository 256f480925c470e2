"""How to run a model on images, whichever format it has: what it takes, and what its output means."""

import abc
from collections.abc import Mapping, Sequence
import dataclasses
from pathlib import Path

from hubexport.errors import ModuleError, either
from hubexport.formats.manifest import Manifest
from hubexport.modules.interface_hints import OUTPUT_KINDS, InterfaceHints, OutputKind
from hubexport.system.digests import file_sha256, tree_files

# What names of endpoints end in, in all of TF-Slim's networks for images: the pooled features, and the classes.
FEATURES_ENDPOINT = "global_pool"
CLASSES_ENDPOINTS = ("logits", "predictions")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ImageInterface(abc.ABC):
    """How to run a model on images.

    Attributes:
        path: where it is: a module's directory, or a deployment's file or folder.
        shown_as: what messages call it.
        image_shape: height, width and channels of the images to run it on.
        input_range: the intensities of black and white in its input.
        output_shape: the shape of its output for one image: `(num_features,)` or `(num_classes,)`.
        output_kind: what its output means; None if neither the model nor the caller says.
        features_from: the signature (in the TF1 Hub format), endpoint or output that returns feature vectors; None if
            only the main output may do so.
        hints: what the caller said about it.
    """

    path: Path
    shown_as: str
    image_shape: tuple[int, int, int]
    input_range: tuple[float, float]
    output_shape: tuple[int, ...]
    output_kind: OutputKind | None
    features_from: str | None = None
    hints: InterfaceHints = InterfaceHints()

    @abc.abstractmethod
    def class_names(self) -> list[str] | None:
        """Returns the names of the classes that come with the model; None if there are none.

        Raises:
            UsageError: they cannot be read.
        """

    @abc.abstractmethod
    def manifest(self) -> Manifest | None:
        """Returns the manifest that comes with the model; None if there is none.

        Raises:
            ManifestError: it cannot be understood.
        """

    def files(self) -> Mapping[str, Path]:
        """Returns the model's files by name.

        Raises:
            OSError: the folder cannot be read.
        """
        if self.path.is_file():
            return {self.path.name: self.path}
        return {path.relative_to(self.path).as_posix(): path for path in tree_files(self.path)}

    def file_digests(self) -> dict[str, str]:
        """Returns the SHA-256 of each of the model's files by name.

        Raises:
            ModuleError: they cannot be read.
        """
        try:
            return {name: file_sha256(path) for name, path in self.files().items()}
        except OSError as error:
            raise ModuleError(
                f"cannot read module {self.shown_as}",
                why=f"{error.strerror or error}: {error.filename or self.path}",
                fix="make its files readable",
            ) from error


def chosen_image_size(
    shown_as: str,
    taken: tuple[int | None, int | None],
    hints: InterfaceHints,
    *,
    default: tuple[int | None, int | None] = (None, None),
    smallest: int | None = None,
) -> tuple[int, int]:
    """Returns the height and width of the images to run a model on: the ones it takes, the caller's, or the default.

    Args:
        shown_as: what errors call the model.
        taken: what it takes; None for any.
        hints: what the caller says.
        default: what it was made for; None if it does not say.
        smallest: the least height and width that its network takes; None if it does not say.
    Raises:
        ModuleError: it does not take images of the caller's size, or takes those of any size and has no default.
    """
    if hints.image_size:
        if any(length not in (None, wanted) for length, wanted in zip(taken, hints.image_size, strict=True)):
            raise ModuleError(
                f"cannot run {shown_as} on images of {_size_text(hints.image_size)} pixels",
                why=f"it takes images of {_size_text(taken)} pixels",
                fix="leave out --image-size",
            )
        if smallest and min(hints.image_size) < smallest:
            raise ModuleError(
                f"cannot run {shown_as} on images of {_size_text(hints.image_size)} pixels",
                why=f"its network needs images of at least {smallest} x {smallest} pixels",
                fix=f"use --image-size {smallest} {smallest} or more, or leave it out",
            )
        return hints.image_size
    height, width = (length or other for length, other in zip(taken, default, strict=True))
    if height is None or width is None:
        raise ModuleError(
            f"cannot tell which size {shown_as} takes images in",
            why="it takes images of any size, and names no default one",
            fix="give the size that it was trained on, like --image-size 224 224",
        )
    return height, width


def _size_text(size: Sequence[int | None]) -> str:
    height, width = ("any" if length is None else str(length) for length in size)
    return f"{height} x {width} (height x width)"


def last_part(name: str) -> str:
    """Returns the last part of an endpoint's name, in lower case."""
    return name.rpartition("/")[2].lower()


def unknown_output_error(what: str) -> ModuleError:
    """Returns the error for a model that does not tell what its output means.

    Args:
        what: what cannot be done for that reason.
    """
    return ModuleError(
        what,
        why="nothing in the module says whether its output is logits, probabilities or features",
        fix=f"give --output-kind {either(OUTPUT_KINDS)}",
    )


def not_runnable_error(shown_as: str, why: str) -> ModuleError:
    """Returns the error for a model that does not take images, or gives no vector for each."""
    return ModuleError(
        f"cannot run {shown_as} on images", why=why, fix="use a module with the common signatures for images"
    )
