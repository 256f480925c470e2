"""Loads a module of either format for training."""

from collections.abc import Iterator
import contextlib
from pathlib import Path

from hubexport.runtime.tf1_training import Tf1Training
from hubexport.runtime.tf2_training import Tf2Training
from hubexport.runtime.trainable_module import TrainableModule


@contextlib.contextmanager
def opened_for_training(directory: Path, *, is_tf1: bool) -> Iterator[TrainableModule]:
    """Loads a module into TensorFlow for training, for as long as the context lasts."""
    with contextlib.ExitStack() as stack:
        yield Tf1Training(directory, stack) if is_tf1 else Tf2Training(directory)
