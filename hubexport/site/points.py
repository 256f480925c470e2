"""The networks that publishers measured: what each costs, how good it is, and where its module is."""

from collections.abc import Callable
import dataclasses
from typing import Literal

import pydantic

from hubexport.config_files import list_variants
from hubexport.release.index import ArtifactRecord
from hubexport.site.catalogue import Catalogue
from hubexport.variants import PublishedFigures, Variant

Cost = Literal["multiply_adds", "latency"]


@dataclasses.dataclass(frozen=True)
class AccuracyPoint:
    """One trained network, as its publishers measured it.

    Attributes:
        variant: its name.
        depth_multiplier: scales the number of channels.
        image_size: height and width of its images in pixels.
        parameters_millions: of its layers.
        multiply_adds_millions: for one image.
        latency_ms: for one image on a Pixel 1's CPU; None if nobody published it.
        top1_percent: accuracy on the ImageNet validation set.
        link: the address of its module; None if the release has none.
        untrained: whether that module's values are made up, so that these figures are not its own.
    """

    variant: str
    depth_multiplier: float
    image_size: int
    parameters_millions: float
    multiply_adds_millions: float
    latency_ms: float | None
    top1_percent: float
    link: str | None
    untrained: bool = False

    def cost(self, cost: Cost) -> float | None:
        """Returns what one image costs."""
        return self.multiply_adds_millions if cost == "multiply_adds" else self.latency_ms


def points(catalogue: Catalogue, link: Callable[[ArtifactRecord], str]) -> list[AccuracyPoint]:
    """Returns all networks with published figures: those of the built-in configs, and others of the release.

    Args:
        catalogue: of the release. Of a network that it has in both kinds, the classification module counts.
        link: tells the address of a module. Those with made-up values are linked as well.
    Returns:
        By depth multiplier and size.
    """
    variants = {f"{one.publisher}/{one.collection}/{one.name}": one for one in list_variants()}
    found = {name: _point(one, one.published, None) for name, one in variants.items() if one.published}
    for handle, (record, *_) in catalogue.modules.items():
        name = handle.rpartition("/")[0]
        if record.kind != "classification" and f"{name}/classification" in catalogue.modules:
            continue
        if figures := _figures(record):
            found[name] = _point(record, figures, link(record))
        elif name in found and _is_same_network(record, variants[name]):
            untrained = record.values == "synthetic"
            found[name] = dataclasses.replace(found[name], link=link(record), untrained=untrained)
    return sorted(found.values(), key=lambda point: (point.depth_multiplier, point.image_size, point.variant))


def _figures(record: ArtifactRecord) -> PublishedFigures | None:
    """Returns the figures that an index has; None if it has none, or something else in their place."""
    try:
        # JSON does not tell 300 from 300.0.
        return PublishedFigures.model_validate(record.published, strict=False) if record.published else None
    except pydantic.ValidationError:
        return None


def _is_same_network(record: ArtifactRecord, variant: Variant) -> bool:
    """Tells whether a module is of the network that a config describes, and not of another one with its name."""
    facts = ("network", "depth_multiplier", "image_size", "dataset")
    same_classes = record.num_classes in (None, variant.num_classes)
    return same_classes and all(getattr(record, fact) == getattr(variant, fact) for fact in facts)


def _point(one: ArtifactRecord | Variant, figures: PublishedFigures, link: str | None) -> AccuracyPoint:
    return AccuracyPoint(
        variant=one.variant if isinstance(one, ArtifactRecord) else one.name,
        depth_multiplier=one.depth_multiplier,
        image_size=one.image_size,
        parameters_millions=figures.parameters_millions,
        multiply_adds_millions=figures.macs_millions,
        latency_ms=figures.pixel1_cpu_ms,
        top1_percent=figures.top1_percent,
        link=link,
    )
