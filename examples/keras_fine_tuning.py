"""Trains a classifier of your own pictures, with a feature vector module in Keras.

    python examples/keras_fine_tuning.py MODULE FOLDER [--output DIR] [--epochs N]

MODULE is a feature vector module in the TF2 format (version 4 or 5). FOLDER has one subfolder of JPEG, PNG, BMP or GIF
images for each class. The program holds back a fifth of the images, trains all layers on the others, saves the model
as a SavedModel in DIR, loads it again, and prints its class for each image held back, and its accuracy. It needs
tensorflow 2.15 to 2.21, tensorflow-hub and Pillow; from tensorflow 2.16 on also tf_keras, because hub.KerasLayer is a
layer of Keras 2.
"""

import argparse
from pathlib import Path

import numpy as np
import tensorflow as tf
import tensorflow_hub as hub

if [int(part) for part in tf.__version__.split(".")[:2]] < [2, 16]:
    keras = tf.keras
else:
    import tf_keras as keras


def main() -> None:
    """Trains, saves, loads and predicts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("module", metavar="MODULE")
    parser.add_argument("folder", metavar="FOLDER")
    parser.add_argument("--output", metavar="DIR", default="fine_tuned", help="(default: fine_tuned)")
    parser.add_argument("--epochs", metavar="N", type=int, default=10, help="(default: 10)")
    parser.add_argument("--batch-size", metavar="N", type=int, default=16, help="(default: 16)")
    parser.add_argument("--learning-rate", metavar="X", type=float, default=0.001, help="(default: 0.001)")
    args = parser.parse_args()

    keras.utils.set_random_seed(1)
    module = hub.load(args.module)
    arguments, _ = module.__call__.concrete_functions[0].structured_input_signature
    size = tuple(arguments[0].shape[1:3])  # height and width
    training, held_back = keras.utils.image_dataset_from_directory(
        args.folder, image_size=size, batch_size=args.batch_size, validation_split=0.2, subset="both", seed=1
    )
    classes = training.class_names

    # The module takes RGB images with intensities in [0, 1]. With its default batch norm momentum of 0.99, the moving
    # averages that predictions use would need hundreds of steps to follow the weights.
    model = keras.Sequential(
        [
            keras.layers.Rescaling(1 / 255, input_shape=(*size, 3)),
            hub.KerasLayer(module, trainable=True, arguments={"batch_norm_momentum": 0.9}),
            keras.layers.Dense(len(classes)),
        ]
    )
    model.compile(
        optimizer=keras.optimizers.Adam(args.learning_rate),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    model.fit(training, validation_data=held_back, epochs=args.epochs, verbose=2)
    model.save(args.output)

    model = keras.models.load_model(args.output)
    right = 0
    for path in map(Path, held_back.file_paths):
        image = tf.image.resize(np.array(keras.utils.load_img(path)), size)  # as in image_dataset_from_directory
        [probabilities] = tf.nn.softmax(model.predict(image[tf.newaxis], verbose=0)).numpy()
        best = int(np.argmax(probabilities))
        right += classes[best] == path.parent.name
        print(f"{path}: {classes[best]} ({probabilities[best]:.2f})")
    print(f"accuracy: {right / len(held_back.file_paths):.2f}")


if __name__ == "__main__":
    main()
