"""Computes feature vectors of photographs as TensorFlow 1 does it: with hub.Module, in a graph and a session.

    python examples/tf1_hub_module.py MODULE IMAGE... [--output FILE.npy]

MODULE is a module in the TF1 Hub format (version 1, 2 or 3). IMAGE is a JPEG, PNG, BMP or GIF file. The program prints
the first numbers of each feature vector, and writes all vectors to FILE.npy, float32 [images, features]. It needs
tensorflow 1.13 to 2.15, tensorflow-hub up to 0.15 (the last version with hub.Module) and Pillow.
"""

import argparse
import sys

from PIL import Image
import numpy as np
import tensorflow.compat.v1 as tf
import tensorflow_hub as hub


def main() -> None:
    """Computes the feature vectors, prints and writes them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("module", metavar="MODULE")
    parser.add_argument("images", metavar="IMAGE", nargs="+")
    parser.add_argument("--output", metavar="FILE.npy", help="where all feature vectors go")
    args = parser.parse_args()
    if not hasattr(hub, "Module"):
        sys.exit(
            f"tensorflow_hub {hub.__version__} has no hub.Module: version 0.15 is the last that has it.\n"
            "Use TensorFlow 2.15 and tensorflow_hub 0.15, or load the module with hub.load(path).signatures['default']."
        )

    with tf.Graph().as_default(), tf.Session() as session:
        module = hub.Module(args.module)
        height, width = hub.get_expected_image_size(module)
        images = tf.placeholder(tf.float32, [None, height, width, 3])
        features = module(images)  # [images, features]
        session.run(tf.global_variables_initializer())
        pictures = [read_image(path, height, width) for path in args.images]
        vectors = session.run(features, {images: np.stack(pictures)})

    for path, vector in zip(args.images, vectors):
        print(f"{path}: {len(vector)} features, {' '.join(f'{number:.3f}' for number in vector[:5])} ...")
    if args.output:
        np.save(args.output, vectors)


def read_image(path, height, width):
    """Returns an image as float32 [height, width, 3], RGB, with intensities in [0, 1]."""
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB").resize((width, height), Image.BILINEAR), np.float32) / 255


if __name__ == "__main__":
    main()
