"""What a module that can be trained offers, whatever its format."""

from collections.abc import Sequence
import dataclasses
from typing import Protocol

from hubexport.arrays import Array


@dataclasses.dataclass(frozen=True)
class TrainingStep:
    """One step of plain gradient descent.

    Attributes:
        before: all variables, by name.
        after: the same.
        gradients: of the loss by the trainable variables; without those that the loss does not depend on.
    """

    before: dict[str, Array]
    after: dict[str, Array]
    gradients: dict[str, Array]


@dataclasses.dataclass(frozen=True)
class TrainingOutputs:
    """What a module gave in training mode.

    Attributes:
        default: float32 [batch, ...], the logits or the features.
        features: float32 [batch, num_features], also of a classification module.
    """

    default: Array
    features: Array


class TrainableModule(Protocol):
    """A module whose variables can be read, set and trained.

    Images are float32 [batch, height, width, 3], intensities in [0, 1]. A cotangent is float32, of the shape of the
    default output: the loss is the sum of the output times it.

    Attributes:
        trainable: the names of the variables that the module says can be trained.
    """

    trainable: tuple[str, ...]

    def values(self) -> dict[str, Array]:
        """Returns the values of all variables, by name."""
        ...

    def reset(self) -> None:
        """Gives all variables the values back that the module came with."""
        ...

    def train(self, images: Array, cotangent: Array, learning_rate: float) -> TrainingStep:
        """Takes one step: gradient descent, and the updates of the moving averages, with the default momentum.

        Without weight decay, whose gradient would hide that a weight gets no other.
        """
        ...

    def update(self, images: Array, momentum: float | None = None) -> TrainingOutputs:
        """Applies the module in training mode, and updates its moving averages.

        Args:
            images: a batch.
            momentum: of the moving averages; None is the module's default.
        """
        ...

    def gradients(self, images: Array, cotangent: Array, variables: Sequence[str]) -> dict[str, Array]:
        """Returns the gradients of the loss by variables, in inference mode; of those that it depends on."""
        ...

    def joint_gradient(self, first: Array, second: Array, cotangent: Array, variable: str) -> Array | None:
        """Applies the module two times, in inference mode, and returns the gradient of both losses' sum by a variable.

        Args:
            first: images for the one application.
            second: images for the other, as many.
            cotangent: of both.
            variable: its name.
        """
        ...

    def regularization_losses(self) -> list[float]:
        """Returns the module's losses, in no particular order."""
        ...
