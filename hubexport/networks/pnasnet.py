"""PNASNet-5: Liu et al., "Progressive Neural Architecture Search" (2017).

Names of layers and endpoints are those of TF-Slim's `pnasnet`.
"""

import dataclasses

from hubexport.networks.family import Family, Group, Paper, UnusedVariables, models_of_tf_slim
from hubexport.networks.image_size import ImageSize
from hubexport.networks.nasnet_cells import (
    BATCH_NORM_MOMENTUM,
    MAX_POOL,
    NONE,
    SMALLEST_IMAGE_SIZE,
    Cell,
    PlacedCell,
    cell_network,
    separable,
)
from hubexport.networks.network import Network

_CELL = Cell(
    sums=(
        ((separable(5), 1), (MAX_POOL, 1)),
        ((separable(7), 0), (MAX_POOL, 0)),
        ((separable(5), 0), (separable(3), 0)),
        ((separable(3), 4), (MAX_POOL, 0)),
        ((separable(3), 1), (NONE, 0)),
    ),
    joined=(2, 3, 4, 5, 6),
)
_WEIGHT_DECAY = 4e-5


@dataclasses.dataclass(frozen=True)
class PnasnetScale:
    """What tells one PNASNet-5 from another.

    Attributes:
        num_cells: the number of cells after the two of the stem. After one third and two thirds of them comes one that
            halves the size of its input.
        filters: the number of channels of a state in the first cells.
        stem_filters: the number of channels of the first convolution.
        keep_prob: with which probability training keeps the output of an operation in the last cell; 1 drops none.
    """

    num_cells: int
    filters: int
    stem_filters: int
    keep_prob: float


_MOBILE = PnasnetScale(num_cells=9, filters=54, stem_filters=32, keep_prob=1.0)
_LARGE = PnasnetScale(num_cells=12, filters=216, stem_filters=96, keep_prob=0.6)


def pnasnet(scale: PnasnetScale, image_size: ImageSize, num_classes: int | None) -> Network:
    """Lays out PNASNet-5.

    Args:
        scale: which one.
        image_size: the images that it takes, which must have a fixed size.
        num_classes: the number of class scores; None leaves the classifier and its variables out.
    """
    filters = scale.filters
    cells = [
        PlacedCell("cell_stem_0", _CELL, filters // 4, stride=2),
        PlacedCell("cell_stem_1", _CELL, filters // 2, stride=2, endpoint="Stem"),
    ]
    for number in range(scale.num_cells):
        is_reduction = number in (scale.num_cells // 3, 2 * scale.num_cells // 3)
        if is_reduction:
            filters *= 2
        cells.append(
            PlacedCell(f"cell_{number}", _CELL, filters, stride=2 if is_reduction else 1, endpoint=f"Cell_{number}")
        )
    return cell_network(
        cells,
        image_size,
        num_classes,
        stem_filters=scale.stem_filters,
        keep_prob=scale.keep_prob,
        weight_decay=_WEIGHT_DECAY,
    )


_GROUP = Group("PNASNet-5", "one cell whose operations a search found, step by step")


def _family(name: str, size: str, scale: PnasnetScale, page_tag: str, versions: tuple[int, ...]) -> Family:
    return Family(
        name=name,
        title=f"PNASNet-5 ({size})",
        group=_GROUP,
        page_tag=page_tag,
        about="PNASNet-5 is a family of neural networks that classify images. They repeat one cell, whose operations "
        "and connections were found by a search that began with simple cells and went on to larger ones.",
        paper=Paper(
            title="Progressive Neural Architecture Search",
            authors="Chenxi Liu, Barret Zoph, Maxim Neumann, Jonathon Shlens, Wei Hua, Li-Jia Li, Li Fei-Fei, "
            "Alan Yuille, Jonathan Huang, Kevin Murphy",
            year=2017,
            url="https://arxiv.org/abs/1712.00559",
        ),
        pretrained=models_of_tf_slim("pnasnet-5_"),
        lay_out=lambda parameters, image_size, classes: pnasnet(scale, image_size, classes),
        # Only the cell after the last one that halves sizes has it, and the number of cells tells which one that is.
        telling_variable=f"cell_{2 * scale.num_cells // 3 + 1}/path1_conv/weights",
        momentum=BATCH_NORM_MOMENTUM,
        versions=versions,
        open_from_version=None,
        smallest_size=SMALLEST_IMAGE_SIZE,
        implementation=f"It has {scale.num_cells} cells after the two of the stem, the first ones of {scale.filters} "
        "filters. The auxiliary classifier, which serves the first training alone, is left out."
        + (" Fine-tuning drops paths as often as the end of the first training did." if scale.keep_prob < 1 else ""),
        unused_variables=(UnusedVariables(f"aux_{2 * scale.num_cells // 3 - 1}/*", "auxiliary head"),),
    )


PNASNET_FAMILIES = (
    # tfhub.dev did not have it, nor a tag for it.
    _family("pnasnet_mobile", "mobile", _MOBILE, "cnn", (3, 5)),
    _family("pnasnet_large", "large", _LARGE, "pnasnet-5-large", (1, 2, 3, 4, 5)),
)
