"""The size of the images that a network takes."""

import dataclasses

from hubexport.networks.ops import TensorShape

_CHANNELS = 3


@dataclasses.dataclass(frozen=True)
class ImageSize:
    """The images that a network takes.

    Attributes:
        height: in pixels; the default where any size is taken.
        width: in pixels; the same.
        is_open: whether any other size is taken, too.
    """

    height: int
    width: int
    is_open: bool = False

    @property
    def shape(self) -> TensorShape:
        """Height, width and channels as an `Input` has them."""
        return (None, None, _CHANNELS) if self.is_open else (self.height, self.width, _CHANNELS)
