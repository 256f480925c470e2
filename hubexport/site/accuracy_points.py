"""The points of the accuracy charts: networks with published figures, and links to their modules."""

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
    """A trained network, as its publishers measured it.

    Attributes:
        variant: the variant's name.
        depth_multiplier: the network's depth multiplier.
        image_size: height and width of the network's images in pixels.
        parameters_millions: the number of its parameters.
        multiply_adds_millions: multiply-adds for one image.
        latency_ms: time for one image on a Pixel 1's CPU; None if it was not published.
        top1_percent: accuracy on the ImageNet validation set.
        link: the address of its module's page; None if the release has no such module.
        untrained: whether that module has synthetic values, to which these figures do not apply.
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
        """Returns what one image costs, in the cost's own unit; None if it was not published."""
        return self.multiply_adds_millions if cost == "multiply_adds" else self.latency_ms


def accuracy_points(catalogue: Catalogue, link: Callable[[ArtifactRecord], str]) -> list[AccuracyPoint]:
    """Returns all networks with published figures, from the built-in configs and from the release.

    Args:
        catalogue: the release's. If it has both kinds of a network, the point links to the classification module.
        link: returns the address of a module's page. Points link to modules with synthetic values, too.
    Returns:
        The points, sorted by depth multiplier and image size.
    """
    variants = {f"{variant.publisher}/{variant.collection}/{variant.name}": variant for variant in list_variants()}
    found = {name: _point(variant, variant.published, None) for name, variant in variants.items() if variant.published}
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
    """Returns a record's published figures; None if they are missing or malformed."""
    try:
        # JSON has integers for whole figures.
        return PublishedFigures.model_validate(record.published, strict=False) if record.published else None
    except pydantic.ValidationError:
        return None


def _is_same_network(record: ArtifactRecord, variant: Variant) -> bool:
    """Tells whether a module has the network that a config describes, and not just its name."""
    facts = ("network", "depth_multiplier", "image_size", "dataset")
    same_classes = record.num_classes in (None, variant.num_classes)
    return same_classes and all(getattr(record, fact) == getattr(variant, fact) for fact in facts)


def _point(source: ArtifactRecord | Variant, figures: PublishedFigures, link: str | None) -> AccuracyPoint:
    return AccuracyPoint(
        variant=source.variant if isinstance(source, ArtifactRecord) else source.name,
        depth_multiplier=source.depth_multiplier,
        image_size=source.image_size,
        parameters_millions=figures.parameters_millions,
        multiply_adds_millions=figures.macs_millions,
        latency_ms=figures.pixel1_cpu_ms,
        top1_percent=figures.top1_percent,
        link=link,
    )
