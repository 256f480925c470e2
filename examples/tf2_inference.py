"""Names what is in photographs, with a classification module and TensorFlow 2.

    python examples/tf2_inference.py MODULE IMAGE... [--labels FILE]

MODULE is a module in the TF2 format (version 4 or 5): its directory, or its address on a hub server. IMAGE is a JPEG,
PNG, BMP or GIF file. The program prints the most probable classes of each image: probability, index and name. The names
come from FILE, one a line, or from the module's own assets/labels.txt. It needs tensorflow 2.15 to 2.21, tensorflow-hub
and Pillow.
"""

import argparse
import os

from PIL import Image
import numpy as np
import tensorflow as tf
import tensorflow_hub as hub


def main() -> None:
    """Classifies the images, one after another."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("module", metavar="MODULE")
    parser.add_argument("images", metavar="IMAGE", nargs="+")
    parser.add_argument("--labels", metavar="FILE", help="the name of each class, one a line")
    parser.add_argument("--top", metavar="N", type=int, default=3, help="the number of classes to print (default: 3)")
    args = parser.parse_args()

    module = hub.load(args.module)
    labels = read_labels(args.labels or os.path.join(hub.resolve(args.module), "assets", "labels.txt"))
    height, width = image_size(module)
    for path in args.images:
        logits = module(read_image(path, height, width)[np.newaxis])  # [1, classes]
        probabilities, classes = tf.math.top_k(tf.nn.softmax(logits)[0], args.top)
        print(path)
        for probability, index in zip(probabilities.numpy(), classes.numpy()):
            print(f"  {probability:.4f} {index:5}  {labels[index] if labels else ''}".rstrip())


def image_size(module):
    """Returns the height and the width of the images that a module takes."""
    arguments, _ = module.__call__.concrete_functions[0].structured_input_signature
    return arguments[0].shape[1:3]


def read_image(path, height, width):
    """Returns an image as float32 [height, width, 3], RGB, with intensities in [0, 1]."""
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB").resize((width, height), Image.BILINEAR), np.float32) / 255


def read_labels(path):
    """Returns the lines of a file, or None if there is no such file."""
    if not os.path.exists(path):
        return None
    with open(path, encoding="utf-8") as file:
        return file.read().splitlines()


if __name__ == "__main__":
    main()
