"""NASNet-A: Zoph et al., "Learning Transferable Architectures for Scalable Image Recognition" (2017).

Names of layers and endpoints are those of TF-Slim's `nasnet`.
"""

import dataclasses

from hubexport.networks.family import Family, Group, Paper, PretrainedModels, UnusedVariables
from hubexport.networks.image_size import ImageSize
from hubexport.networks.nasnet_cells import (
    AVERAGE_POOL,
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

_NORMAL = Cell(
    sums=(
        ((separable(5), 0), (separable(3), 1)),
        ((separable(5), 1), (separable(3), 1)),
        ((AVERAGE_POOL, 0), (NONE, 1)),
        ((AVERAGE_POOL, 1), (AVERAGE_POOL, 1)),
        ((separable(3), 0), (NONE, 0)),
    ),
    joined=(1, 2, 3, 4, 5, 6),
)
_REDUCTION = Cell(
    sums=(
        ((separable(5), 0), (separable(7), 1)),
        ((MAX_POOL, 0), (separable(7), 1)),
        ((AVERAGE_POOL, 0), (separable(5), 1)),
        ((NONE, 3), (AVERAGE_POOL, 2)),
        ((separable(3), 2), (MAX_POOL, 0)),
    ),
    joined=(3, 4, 5, 6),
)


@dataclasses.dataclass(frozen=True)
class NasnetScale:
    """What tells one NASNet-A from another.

    Attributes:
        num_cells: the number of normal cells. After one third and two thirds of them comes a reduction cell.
        filters: the number of channels of a state in the first normal cells.
        stem_filters: the number of channels of the first convolution.
        skips_reduction_input: whether the cell after a reduction cell takes the output before the reduction cell's
            input for its second input, and not the input itself.
        keep_prob: with which probability training keeps the output of an operation in the last cell; 1 drops none.
        weight_decay: of all kernels.
    """

    num_cells: int
    filters: int
    stem_filters: int
    skips_reduction_input: bool
    keep_prob: float
    weight_decay: float


_MOBILE = NasnetScale(
    num_cells=12, filters=44, stem_filters=32, skips_reduction_input=False, keep_prob=1.0, weight_decay=4e-5
)
_LARGE = NasnetScale(
    num_cells=18, filters=168, stem_filters=96, skips_reduction_input=True, keep_prob=0.7, weight_decay=5e-5
)


def nasnet(scale: NasnetScale, image_size: ImageSize, num_classes: int | None) -> Network:
    """Lays out NASNet-A.

    Args:
        scale: which one.
        image_size: the images that it takes, which must have a fixed size.
        num_classes: the number of class scores; None leaves the classifier and its variables out.
    """
    filters = scale.filters
    cells = [
        PlacedCell("cell_stem_0", _REDUCTION, filters // 4, stride=2),
        PlacedCell("cell_stem_1", _REDUCTION, filters // 2, stride=2, endpoint="Stem"),
    ]
    reduced_before = [scale.num_cells // 3, 2 * scale.num_cells // 3]
    for number in range(scale.num_cells):
        previous = 2
        if number in reduced_before:
            filters *= 2
            index = reduced_before.index(number)
            cells.append(
                PlacedCell(f"reduction_cell_{index}", _REDUCTION, filters, stride=2, endpoint=f"Reduction_Cell_{index}")
            )
            previous = 3 if scale.skips_reduction_input else 2
        cells.append(PlacedCell(f"cell_{number}", _NORMAL, filters, previous=previous, endpoint=f"Cell_{number}"))
    return cell_network(
        cells,
        image_size,
        num_classes,
        stem_filters=scale.stem_filters,
        keep_prob=scale.keep_prob,
        weight_decay=scale.weight_decay,
    )


_GROUP = Group("NASNet-A", "cells whose operations a search found")


def _family(name: str, size: str, scale: NasnetScale) -> Family:
    return Family(
        name=name,
        title=f"NASNet-A ({size})",
        group=_GROUP,
        page_tag=f"nasnet-a-{size}",
        about="NASNet-A is a family of neural networks that classify images. They repeat two kinds of cells, whose "
        "operations and connections were found by a search: a normal cell keeps the size of its input, a reduction "
        "cell halves it.",
        paper=Paper(
            title="Learning Transferable Architectures for Scalable Image Recognition",
            authors="Barret Zoph, Vijay Vasudevan, Jonathon Shlens, Quoc V. Le",
            year=2017,
            url="https://arxiv.org/abs/1707.07012",
        ),
        pretrained=PretrainedModels(
            title="pre-trained models of NASNet",
            page="https://github.com/tensorflow/models/blob/master/research/slim/nets/nasnet/README.md",
            archives="https://storage.googleapis.com/download.tensorflow.org/models/nasnet-a_",
        ),
        lay_out=lambda parameters, image_size, classes: nasnet(scale, image_size, classes),
        # Only the cell after the last reduction cell has it, and the number of cells tells which one that is.
        telling_variable=f"cell_{2 * scale.num_cells // 3}/path1_conv/weights",
        momentum=BATCH_NORM_MOMENTUM,
        open_from_version=None,
        smallest_size=SMALLEST_IMAGE_SIZE,
        implementation=f"It has {scale.num_cells} normal cells, the first ones of {scale.filters} filters. The "
        "auxiliary classifier, which serves the first training alone, is left out."
        + (" Fine-tuning drops paths as often as the end of the first training did." if scale.keep_prob < 1 else ""),
        unused_variables=(UnusedVariables(f"aux_{2 * scale.num_cells // 3 - 1}/*", "auxiliary head"),),
    )


NASNET_FAMILIES = (_family("nasnet_mobile", "mobile", _MOBILE), _family("nasnet_large", "large", _LARGE))
