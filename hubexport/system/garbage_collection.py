"""Keeps Python from looking for garbage where it finds next to none."""

from collections.abc import Iterator
import contextlib
import gc

# New objects between two searches. Python's default is 700.
_OBJECTS = 200_000


@contextlib.contextmanager
def rare_collections() -> Iterator[None]:
    """Lets Python look for reference cycles rarely while TensorFlow starts, and loads or builds graphs.

    Each makes hundreds of thousands of objects that stay. To go through them again and again takes up to a tenth of the
    time.
    """
    before = gc.get_threshold()
    gc.set_threshold(_OBJECTS, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)
