"""A family of networks: everything that belongs to it alone, so that nobody else has to know its name."""

from collections.abc import Callable, Mapping
import dataclasses
import fnmatch
import functools
from typing import Annotated, Any

import pydantic
from pydantic import ConfigDict, Field

from hubexport.networks.image_size import ImageSize
from hubexport.networks.network import Network
from hubexport.readable_numbers import two_decimals

# Far beyond any published network: a larger one would be a slip of the pen that fills the disk.
_MAX_DEPTH_MULTIPLIER = 10
_MAX_IMAGE_SIZE = 8192


class Parameters(pydantic.BaseModel):
    """The parameters of a family without any; others extend it. Its fields are keys of a variant's config."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    def __str__(self) -> str:
        """Lists the parameters for people, like `depth multiplier 0.75`; empty for a family without any."""
        return ", ".join(f"{name.replace('_', ' ')} {value:g}" for name, value in self)


class DepthMultiplier(Parameters):
    """The parameters of the MobileNets.

    Attributes:
        depth_multiplier: scales the number of channels of every layer; greater than 0, at most 10.
    """

    depth_multiplier: Annotated[float, Field(gt=0, le=_MAX_DEPTH_MULTIPLIER)]


@dataclasses.dataclass(frozen=True)
class Paper:
    """The paper that describes a network.

    Attributes:
        title: of the paper.
        authors: as a citation names them.
        year: of its first publication.
        url: its page.
    """

    title: str
    authors: str
    year: int
    url: str


@dataclasses.dataclass(frozen=True)
class Group:
    """Families of similar networks, which lists and charts show together.

    Attributes:
        title: what people call them all, like `ResNet V1`.
        summary: what its networks are, in one line without a full stop.
    """

    title: str
    summary: str


@dataclasses.dataclass(frozen=True)
class UnusedVariables:
    """Variables that checkpoints of a family may hold beside the network's. Modules do not have them.

    Attributes:
        pattern: their names, as `fnmatch` has patterns, like `InceptionV3/AuxLogits/*`.
        title: what people call them, like `auxiliary head`.
        value: what the one variable must be, since modules have it as a constant; None if any value will do.
    """

    pattern: str
    title: str
    value: tuple[float, ...] | None = None


@dataclasses.dataclass(frozen=True)
class PretrainedModels:
    """Where TF-Slim's authors published a family's checkpoints.

    Attributes:
        title: what they call them, as it follows "one of the".
        page: the address of the page that lists them.
        archives: how the address of each archive begins.
        about: what is true of their values, but not of every network of the family, in Markdown; empty if pages need
            not say it.
        trained_by: who trained them, as it follows "by".
    """

    title: str
    page: str
    archives: str
    about: str = ""
    trained_by: str = "Google"


def models_of_tf_slim(archives: str, about: str = "", trained_by: str = "Google") -> PretrainedModels:
    """Returns the place of the checkpoints that TF-Slim's own page lists.

    Args:
        archives: how the name of each archive begins, like `inception_v3_`.
        about: see `PretrainedModels`.
        trained_by: see `PretrainedModels`.
    """
    return PretrainedModels(
        title="pre-trained models of TF-Slim",
        page="https://github.com/tensorflow/models/blob/master/research/slim/README.md#pre-trained-models",
        archives=f"https://storage.googleapis.com/download.tensorflow.org/models/{archives}",
        about=about,
        trained_by=trained_by,
    )


@dataclasses.dataclass(frozen=True)
class Family:
    """Networks with one builder and one set of parameters.

    Attributes:
        name: what `network` in a config says.
        title: what people call it.
        page_tag: its name in tfhub.dev's tags/network_architecture.yaml.
        about: what its networks are and what they are for, in Markdown; pages have it before the paper. Whoever
            trained them, it must be true.
        paper: what describes it.
        pretrained: where its checkpoints were published; None if nowhere.
        lay_out: makes a network from parameters, image size, and number of classes (None for no classifier).
        telling_variable: a variable that each checkpoint of the family has, and no checkpoint of another one unless
            that comes earlier in the registry, or its networks have the same variables, and the same telling one.
        momentum: of batch norm's moving averages in TF-Slim's training scope, which versions 1 and 2 have. It
            means nothing in a family without batch norm.
        parameters: the model of its parameters.
        published_classes: the number of classes of the published checkpoints.
        published_parameters: those of the published checkpoints; what to try when telling which one a checkpoint has.
        versions: the module versions that tfhub.dev had of it; 3 and 5 for a family that it did not have.
        open_from_version: the first version whose modules take images of any size; None if there is none.
        size_multiple: each side of an image must be a multiple of it, in pixels.
        smallest_size: the shortest side of an image, in pixels; in a smaller one some window does not fit.
        implementation: how TF-Slim's networks differ from the paper's, in Markdown; empty if pages need not say it.
        frozen_tensors: in the frozen graph that its publishers ship, the tensors that give `features` and
            `probabilities`; empty if none ships.
        unused_variables: what its checkpoints may hold beside the network's variables.
        group: the families that it is shown with; None if it is shown alone.
    """

    name: str
    title: str
    page_tag: str
    about: str
    paper: Paper
    pretrained: PretrainedModels | None
    lay_out: Callable[[Any, ImageSize, int | None], Network]
    telling_variable: str
    momentum: float
    parameters: type[Parameters] = Parameters
    published_classes: int = 1001
    published_parameters: tuple[Parameters, ...] = (Parameters(),)
    versions: tuple[int, ...] = (1, 3, 4, 5)
    open_from_version: int | None = 3
    size_multiple: int = 1
    smallest_size: int = 1
    implementation: str = ""
    frozen_tensors: Mapping[str, str] = dataclasses.field(default_factory=dict)
    unused_variables: tuple[UnusedVariables, ...] = ()
    group: Group | None = None

    @property
    def group_title(self) -> str:
        """What people call the families that it is shown with, itself included."""
        return self.group.title if self.group else self.title

    def network(
        self, parameters: Parameters, image_size: int, num_classes: int | None, version: int | None = None
    ) -> Network:
        """Lays out a network of the family.

        Args:
            parameters: of the model `self.parameters`.
            image_size: height and width in pixels; the default where the version takes any size.
            num_classes: the number of class scores; None for a network without classifier.
            version: the version of its module. Defaults to one for images of `image_size` alone.
        """
        is_open = version is not None and self.takes_any_size(version)
        return _laid_out(self.lay_out, parameters, ImageSize(image_size, image_size, is_open), num_classes)

    def takes_any_size(self, version: int) -> bool:
        """Tells whether modules of a version take images of any height and width."""
        return self.open_from_version is not None and version >= self.open_from_version

    def describe(self, parameters: Parameters) -> str:
        """Names one of the family's networks for people, like `MobileNet V2, depth multiplier 0.75`."""
        return ", ".join(filter(None, (self.title, str(parameters))))

    def short_name(self, parameters: Parameters) -> str:
        """Names one of the family's networks in tables and charts, like `MobileNet V2 0.75`."""
        return " ".join((self.title, *(two_decimals(value) for _, value in parameters)))

    def size_problem(self, size: int) -> str | None:
        """Says which sizes are allowed if this one is not.

        Args:
            size: height or width in pixels.
        Returns:
            What the size must be; None for an allowed size.
        """
        if self.smallest_size <= size <= _MAX_IMAGE_SIZE and size % self.size_multiple == 0:
            return None
        multiple = "whole number" if self.size_multiple == 1 else f"multiple of {self.size_multiple}"
        if self.smallest_size == 1:
            return f"a positive {multiple}, up to {_MAX_IMAGE_SIZE}"
        return f"a {multiple} from {self.smallest_size} to {_MAX_IMAGE_SIZE}"

    def unused(self, variable: str) -> UnusedVariables | None:
        """Returns what a checkpoint's variable is if checkpoints may hold it beside the network's; otherwise None."""
        matching = (unused for unused in self.unused_variables if fnmatch.fnmatchcase(variable, unused.pattern))
        return next(matching, None)


# One build asks for its network up to nine times. A large one takes tens of milliseconds to lay out.
@functools.lru_cache(maxsize=16)
def _laid_out(
    lay_out: Callable[[Any, ImageSize, int | None], Network],
    parameters: Parameters,
    image_size: ImageSize,
    num_classes: int | None,
) -> Network:
    return lay_out(parameters, image_size, num_classes)
