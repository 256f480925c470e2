"""Loads TF1 Hub modules with the real `hub.Module`, and prints what it finds.

python scripts/demo.py MODULES_DIR      such as modules/google/imagenet/mobilenet_v2_075_192
"""

import os
from pathlib import Path
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np  # noqa: E402
import tensorflow.compat.v1 as tf  # noqa: E402
import tensorflow_hub as hub  # noqa: E402


def main(modules: Path) -> None:
    """Applies each TF1 Hub module below a folder to random images."""
    tf.disable_eager_execution()
    tf.logging.set_verbosity(tf.logging.ERROR)
    for path in sorted(file.parent for file in modules.rglob("tfhub_module.pb")):
        with tf.Graph().as_default(), tf.Session() as session:
            spec = hub.load_module_spec(str(path))
            height, width = hub.get_expected_image_size(spec)
            images = np.random.RandomState(0).uniform(size=(2, height, width, 3)).astype(np.float32)
            outputs = hub.Module(spec)(images, as_dict=True)
            session.run(tf.global_variables_initializer())
            default = session.run(outputs["default"])
            print(path)
            print(f"  graph versions  {', '.join(str(sorted(tags)) for tags in spec.get_tags())}")
            print(f"  signatures      {', '.join(sorted(spec.get_signature_names()))}")
            print(f"  images          [batch, {height}, {width}, 3], float32 in [0, 1]")
            print(f"  default output  {list(default.shape)}, from {default.min():.3f} to {default.max():.3f}")
            print(f"  endpoints       {len(outputs) - 1}, such as MobilenetV2/layer_18/output")
            print(f"  variables       {len(tf.global_variables())}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
