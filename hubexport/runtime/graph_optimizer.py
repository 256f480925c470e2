"""TensorFlow's graph optimizer, which takes longer with a large graph than running it a few times."""

from collections.abc import Iterator
import contextlib

import tensorflow as tf

_OFF = "disable_meta_optimizer"


@contextlib.contextmanager
def graph_optimizer(*, on: bool) -> Iterator[None]:
    """Switches it on or off for functions that run in the context. Sessions have a configuration of their own."""
    before = tf.config.optimizer.get_experimental_options().get(_OFF, False)
    tf.config.optimizer.set_experimental_options({_OFF: not on})
    try:
        yield
    finally:
        tf.config.optimizer.set_experimental_options({_OFF: before})
