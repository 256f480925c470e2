"""`tf_slim`, mended so that its last release (1.1.0) works on the TensorFlows that hubexport runs on.

Import it from here: `from hubexport.reference.slim import slim`.
"""

from tensorflow.python.framework import ops, tensor

# TensorFlow 2.15 moved this class; tf_slim looks for it in its old place when its layers are called.
if not hasattr(ops, "Tensor"):
    ops.Tensor = tensor.Tensor

import tf_slim as slim  # noqa: E402  The mending comes first.

__all__ = ["UPDATES_COLLECTION", "slim"]

# slim.batch_norm goes through Keras's legacy layers, which TensorFlow 2.14 and later lack, when and only when its
# updates are to go to tf.GraphKeys.UPDATE_OPS itself. For any other collection it uses its own fused batch norm, which
# also takes a tensor as decay.
UPDATES_COLLECTION = "reference_update_ops"
