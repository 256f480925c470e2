"""The interface of a module that can be trained, the same for both formats."""

from collections.abc import Sequence
import dataclasses
from typing import Protocol

from hubexport.arrays import Array


@dataclasses.dataclass(frozen=True)
class TrainingStep:
    """One step of plain gradient descent.

    Attributes:
        after: the values of all variables after the step, by name.
        gradients: the gradients of the loss by the trainable variables that it depends on, by name.
    """

    after: dict[str, Array]
    gradients: dict[str, Array]


@dataclasses.dataclass(frozen=True)
class TrainingOutputs:
    """The outputs of a module in training mode.

    Attributes:
        default: the logits, float32 [batch, num_classes], or the features of a module without classifier.
        features: the features, float32 [batch, num_features].
    """

    default: Array
    features: Array


class TrainableModule(Protocol):
    """A module whose variables can be read, set and trained.

    Images are float32 [batch, height, width, 3], intensities in [0, 1]. A cotangent is float32 and has the shape of the
    default output: the loss is the sum of their product.

    Attributes:
        trainable: the names of the variables that the module marks as trainable.
    """

    trainable: tuple[str, ...]

    def values(self) -> dict[str, Array]:
        """Returns the values of all variables, by name."""

    def reset(self) -> None:
        """Sets all variables to the values that the module was loaded with."""

    def train(self, images: Array, cotangent: Array, learning_rate: float) -> TrainingStep:
        """Takes one step of gradient descent, and updates the moving averages with the default momentum.

        The loss has no weight decay: its gradient would hide a weight that gets no gradient from the output.
        """

    def update(self, images: Array, momentum: float | None = None) -> TrainingOutputs:
        """Applies the module in training mode, and updates its moving averages.

        Args:
            images: a batch of images.
            momentum: how much of a moving average the update keeps, in [0, 1]. Defaults to the module's momentum.
        """

    def gradients(self, images: Array, cotangent: Array, variables: Sequence[str]) -> dict[str, Array]:
        """Returns the gradients of the loss in inference mode, by name, of those variables that it depends on."""

    def joint_gradient(self, first: Array, second: Array, cotangent: Array, variable: str) -> Array | None:
        """Applies the module twice, in inference mode, and returns the gradient of the sum of both losses.

        Args:
            first: images for the first application.
            second: as many images for the second.
            cotangent: the cotangent of either output.
            variable: the name of the variable with respect to which the sum is differentiated.
        Returns:
            The gradient, or None if the losses do not depend on the variable.
        """

    def regularization_losses(self) -> list[float]:
        """Returns the module's regularization losses, in no particular order."""
