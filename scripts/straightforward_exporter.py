"""The obvious exporter: TF-Slim's graph through TensorFlow Hub's own exporter. The benchmarks' baseline.

    python scripts/straightforward_exporter.py DEPTH_MULTIPLIER IMAGE_SIZE KIND CHECKPOINT_PREFIX OUTPUT_DIR

It needs tensorflow-hub 0.15, the last with `hub.create_module_spec`. Modules that it writes on TensorFlow 2.15 do not
load on 1.15.
"""

import os
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import tensorflow as tf  # noqa: E402
import tensorflow_hub as hub  # noqa: E402

from hubexport.reference.mobilenet_v2 import reference_mobilenet_v2  # noqa: E402

NUM_CLASSES = 1001


def main(depth_multiplier: float, image_size: int, kind: str, checkpoint: str, output_dir: str) -> None:
    """Exports one module with both graph versions, from the averaged values of a checkpoint."""

    def module_fn(is_training: bool) -> None:
        images = tf.compat.v1.placeholder(tf.float32, [None, image_size, image_size, 3], name="images")
        num_classes = NUM_CLASSES if kind == "classification" else None
        built = reference_mobilenet_v2(images, depth_multiplier, num_classes, is_training=is_training)
        for update in built.update_ops:
            tf.compat.v1.add_to_collection(tf.compat.v1.GraphKeys.UPDATE_OPS, update)
        results = {"image_feature_vector": built.features}
        if kind == "classification":
            results["image_classification"] = built.logits
        results["default"] = results[f"image_{kind}"]
        for name, result in results.items():
            hub.add_signature(name, {"images": images}, {"default": result, **built.endpoints})

    spec = hub.create_module_spec(
        module_fn,
        tags_and_args=[(set(), {"is_training": False}), ({"train"}, {"is_training": True})],
        # tf_slim's batch norm needs this collection on this TensorFlow; tensorflow_hub rejects it.
        drop_collections=["reference_update_ops"],
    )
    spec.export(output_dir, checkpoint_path=checkpoint, name_transform_fn="{}/ExponentialMovingAverage".format)


if __name__ == "__main__":
    main(float(sys.argv[1]), int(sys.argv[2]), *sys.argv[3:])
