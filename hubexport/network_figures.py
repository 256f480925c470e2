"""What a variant's network costs: the publishers' figures, or hubexport's own count where they give none."""

import dataclasses
from typing import Any, Protocol

from hubexport.networks import costs
from hubexport.networks.family import Family
from hubexport.networks.registry import FAMILIES
from hubexport.variants import PublishedFigures


class NetworkFacts(Protocol):
    """What says which network something has: a variant, or a module's record in a release."""

    @property
    def network(self) -> str:
        """The name of its family."""

    @property
    def family(self) -> Family:
        """Its family."""

    @property
    def family_parameters(self) -> Any:
        """The family's parameters."""

    @property
    def image_size(self) -> int:
        """Height and width of its images, in pixels."""

    @property
    def num_classes(self) -> int | None:
        """The number of its class scores; None if it has no classifier."""


@dataclasses.dataclass(frozen=True)
class NetworkFigures:
    """The size of a network, and its work for one image.

    Attributes:
        macs_millions: the multiply-adds for one image.
        parameters_millions: the number of its parameters, as publishers count them.
        counted: which of the two hubexport counted, for lack of a published figure.
    """

    macs_millions: int
    parameters_millions: float
    counted: tuple[str, ...]


def network_figures(source: NetworkFacts, published: PublishedFigures | None, image_size: int) -> NetworkFigures:
    """Returns the figures of a variant's network.

    Args:
        source: a variant, or a module's record.
        published: the publishers' figures; None if there are none.
        image_size: height and width in pixels of the image whose multiply-adds to count.
    """
    published = published or PublishedFigures()
    macs_millions, parameters_millions = published.macs_millions, published.parameters_millions
    counted = []
    if macs_millions is None or parameters_millions is None:
        network = source.family.network(source.family_parameters, image_size, source.num_classes)
        if macs_millions is None:
            macs_millions = round(sum(costs.multiply_adds(network).values()) / 1e6)
            counted.append("macs_millions")
        if parameters_millions is None:
            parameters_millions = round(costs.published_parameters(network) / 1e6, 2)
            counted.append("parameters_millions")
    return NetworkFigures(macs_millions, parameters_millions, tuple(counted))


def network_order(source: NetworkFacts) -> tuple[float, ...]:
    """Returns a key that sorts networks by family, parameters and image size: as text, 224 would come before 96."""
    parameters = dict(source.family_parameters).values()
    return (list(FAMILIES).index(source.network), *parameters, source.image_size)
