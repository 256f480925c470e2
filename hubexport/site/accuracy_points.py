"""The points of the accuracy charts: networks with published figures, and links to their modules."""

from collections.abc import Callable
import dataclasses
from typing import Literal

import pydantic

from hubexport.config_files import list_variants
from hubexport.network_figures import network_figures, network_order
from hubexport.release.index import ArtifactRecord
from hubexport.site.catalogue import Catalogue
from hubexport.variants import PublishedFigures, Variant

Cost = Literal["multiply_adds", "latency"]
# What a hub has of a network: a module with its published values, one with made-up values, one with other values, none.
Presence = Literal["here", "untrained", "other values", "absent"]

# What readers call the figures that hubexport counts.
_TITLES = {"macs_millions": "multiply-adds", "parameters_millions": "parameters"}


@dataclasses.dataclass(frozen=True)
class AccuracyPoint:
    """A trained network, as its publishers measured it.

    Attributes:
        variant: the variant's name.
        group: the title of the families that the network's family is shown with.
        network: what tells the networks of a group apart, for people, like `large 0.75`; empty if nothing does.
        image_size: height and width of the images on which accuracy was measured, in pixels.
        parameters_millions: the number of its parameters.
        multiply_adds_millions: multiply-adds for one image.
        latency_ms: time for one image on a Pixel 1's CPU; None if it was not published.
        top1_percent: accuracy on the ImageNet validation set.
        counted: which of `multiply-adds` and `parameters` hubexport counted, for lack of a published figure.
        link: the address of its module's page; None if the release has no such module.
        presence: what the release has of the network. The figures are true of the module `here` alone.
    """

    variant: str
    group: str
    network: str
    image_size: int
    parameters_millions: float
    multiply_adds_millions: float
    latency_ms: float | None
    top1_percent: float
    counted: tuple[str, ...]
    link: str | None
    presence: Presence

    @property
    def series(self) -> tuple[str, str]:
        """What networks that differ in nothing but their image size have in common."""
        return self.group, self.network

    def cost(self, cost: Cost) -> float | None:
        """Returns what one image costs, in the cost's own unit; None if it was not published."""
        return self.multiply_adds_millions if cost == "multiply_adds" else self.latency_ms


def accuracy_points(catalogue: Catalogue, link: Callable[[ArtifactRecord], str]) -> list[AccuracyPoint]:
    """Returns all networks with a published accuracy, from the built-in configs and from the release.

    Args:
        catalogue: the release's. If it has both kinds of a network, the point links to the classification module.
        link: returns the address of a module's page.
    Returns:
        The points, by family, parameters and image size, in the order of `network_order`.
    """
    variants = {f"{variant.publisher}/{variant.collection}/{variant.name}": variant for variant in list_variants()}
    found: dict[str, tuple[Variant | ArtifactRecord, AccuracyPoint]] = {}
    for name, variant in variants.items():
        if variant.published and (point := _point(variant, variant.published, None)):
            found[name] = variant, point
    for handle, versions in catalogue.modules.items():
        record = next((version for version in versions if carried_figures(version)), versions[0])
        name = handle.rpartition("/")[0]
        if record.kind != "classification" and f"{name}/classification" in catalogue.modules:
            continue
        if (figures := carried_figures(record)) and (point := _point(record, figures, link(record))):
            found[name] = record, point
        elif name in found and _is_same_network(record, variants[name]):
            _, point = found[name]
            presence: Presence = "untrained" if record.values == "synthetic" else "other values"
            found[name] = record, dataclasses.replace(point, link=link(record), presence=presence)
    ordered = sorted(found.values(), key=lambda one: (*network_order(one[0]), one[1].variant))
    return [point for _, point in ordered]


def carried_figures(record: ArtifactRecord) -> PublishedFigures | None:
    """Returns the published figures that are true of a module's values; None if there are none, or malformed ones.

    Publishers measured the averages of variables that have them: their figures are not those of raw values.
    """
    if record.values == "synthetic" or record.inputs.weights == "raw":
        return None
    try:
        # JSON has integers for whole figures.
        return PublishedFigures.model_validate(record.published, strict=False) if record.published else None
    except pydantic.ValidationError:
        return None


def _is_same_network(record: ArtifactRecord, variant: Variant) -> bool:
    """Tells whether a module has the network that a config describes, and not just its name."""
    facts = ("network", "family_parameters", "image_size", "dataset")
    same_classes = record.num_classes in (None, variant.num_classes)
    return same_classes and all(getattr(record, fact) == getattr(variant, fact) for fact in facts)


def _point(source: ArtifactRecord | Variant, figures: PublishedFigures, link: str | None) -> AccuracyPoint | None:
    """Returns a network's point; None without a published accuracy."""
    if figures.top1_percent is None:
        return None
    size = figures.accuracy_image_size or source.image_size
    known = network_figures(source, figures, size)
    name, group = source.family.short_name(source.family_parameters), source.family.group_title
    return AccuracyPoint(
        variant=source.variant if isinstance(source, ArtifactRecord) else source.name,
        group=group,
        network="" if name == group else name.removeprefix(f"{group} "),
        image_size=size,
        parameters_millions=known.parameters_millions,
        multiply_adds_millions=known.macs_millions,
        latency_ms=figures.pixel1_cpu_ms,
        top1_percent=figures.top1_percent,
        counted=tuple(_TITLES[name] for name in known.counted),
        link=link,
        presence="absent" if link is None else "here",
    )
