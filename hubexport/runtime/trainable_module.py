"""The interface of a module that can be trained, the same for both formats."""

from collections.abc import Iterator, Mapping, Sequence
import dataclasses
from typing import Literal, Protocol

from hubexport.arrays import Array

MainOutput = Literal["default", "features"]
# The gradient of a loss by each of these outputs, float32 in the shape of the output. The loss is the sum of their
# products with the outputs.
Cotangents = Mapping[MainOutput, Array]


@dataclasses.dataclass(frozen=True)
class Gradients:
    """The gradients of a loss.

    Attributes:
        way: how the module was applied, like `__call__(training=True)`.
        outputs: the outputs that the loss has products of.
        values: the gradients by the variables that the loss depends on, by name.
        images: the gradient by the images; None if the loss does not depend on them.
    """

    way: str
    outputs: tuple[MainOutput, ...]
    values: dict[str, Array]
    images: Array | None


@dataclasses.dataclass(frozen=True)
class TrainingPass:
    """One application of a module in training mode.

    Attributes:
        way: how the module was applied.
        outputs: float32 [batch, ...] by the name of the signature or function and by key.
        after: the values of all variables after it, by name.
    """

    way: str
    outputs: dict[str, dict[str, Array]]
    after: dict[str, Array]


@dataclasses.dataclass(frozen=True)
class TrainingStep(TrainingPass):
    """One step of plain gradient descent, which updates the moving averages as well.

    Attributes:
        gradients: the gradients of the loss by the variables that the module marks as trainable.
    """

    gradients: Gradients


@dataclasses.dataclass(frozen=True)
class RegularizationLosses:
    """The regularization losses of a graph version, or of the object.

    Attributes:
        where: what holds them, like `graph version [train]`.
        values: the losses.
        gradients: the gradients of their sum, weighted by `loss_weights`, by the variables that it depends on.
    """

    where: str
    values: tuple[float, ...]
    gradients: dict[str, Array]


def loss_weights(count: int) -> tuple[float, ...]:
    """Returns a weight for each of some losses, all of them different, by which one gradient tells them apart."""
    return tuple(1 + number / count for number in range(count))


class TrainableModule(Protocol):
    """A module that can be trained. Each application in training mode begins with the same values.

    It is applied in every way that programs can apply it. Ways that run the same nodes are tried once: signatures with
    the same tensors, and functions that compute `default` by the same nodes.

    Images are float32 [batch, height, width, 3], intensities in [0, 1].
    """

    def train(self, images: Array, cotangents: Cotangents, learning_rate: float) -> list[TrainingStep]:
        """Takes one step of gradient descent in each way, with the default momentum.

        The loss has no weight decay: its gradient would hide a weight that gets no gradient from the output.
        """

    def passes(self, images: Array, momentum: float | None = None) -> Iterator[TrainingPass]:
        """Applies the module in training mode in each way, with all outputs, and updates its moving averages.

        Args:
            images: a batch of images.
            momentum: how much of a moving average the update keeps, in [0, 1]. Ways that do not take one are left out.
                Defaults to the module's momentum.
        """

    def gradients(self, images: Array, cotangents: Cotangents, variables: Sequence[str]) -> list[Gradients]:
        """Returns the gradients of the loss in inference mode by some variables and the images, for each way."""

    def joint_gradient(self, first: Array, second: Array, cotangent: Array, variable: str) -> Array | None:
        """Applies the module twice, in inference mode, and returns the gradient of the sum of both losses.

        Args:
            first: images for the first application.
            second: as many images for the second.
            cotangent: the cotangent of either default output.
            variable: the name of the variable with respect to which the sum is differentiated.
        Returns:
            The gradient, or None if the losses do not depend on the variable.
        """

    def regularization_losses(self) -> list[RegularizationLosses]:
        """Returns the module's regularization losses, from each place that holds them."""
