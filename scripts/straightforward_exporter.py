"""The obvious exporter: TF-Slim's graph through TensorFlow Hub's own exporter. The benchmarks' baseline.

    python scripts/straightforward_exporter.py VARIANT KIND CHECKPOINT_PREFIX OUTPUT_DIR

It takes averaged values. It needs tensorflow-hub 0.15, the last with `hub.create_module_spec`. Modules that it writes
on TensorFlow 2.15 do not load on 1.15.
"""

import os
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import tensorflow as tf  # noqa: E402
import tensorflow_hub as hub  # noqa: E402

import hubexport  # noqa: E402
from hubexport.reference.registry import REFERENCES  # noqa: E402

KNOWN_COLLECTIONS = {value for name, value in vars(tf.compat.v1.GraphKeys).items() if isinstance(value, str)}


def main(variant_name: str, kind: str, checkpoint: str, output_dir: str) -> None:
    """Exports one module with both graph versions, from the averaged values of a checkpoint."""
    variant = hubexport.load_variant(variant_name)
    size = variant.image_size

    def module_fn(is_training: bool) -> None:
        images = tf.compat.v1.placeholder(tf.float32, [None, size, size, 3], name="images")
        num_classes = variant.num_classes if kind == "classification" else None
        reference = REFERENCES[variant.network]
        built = reference(images, variant.family_parameters, num_classes, is_training=is_training)
        for update in built.update_ops:
            tf.compat.v1.add_to_collection(tf.compat.v1.GraphKeys.UPDATE_OPS, update)
        # tensorflow_hub rejects tf_slim's own collections.
        graph = tf.compat.v1.get_default_graph()
        for name in set(graph.collections) - KNOWN_COLLECTIONS:
            graph.clear_collection(name)
        results = {"image_feature_vector": built.features}
        if kind == "classification":
            results["image_classification"] = built.logits
        results["default"] = results[f"image_{kind}"]
        for name, result in results.items():
            hub.add_signature(name, {"images": images}, {"default": result, **built.endpoints})

    spec = hub.create_module_spec(
        module_fn,
        tags_and_args=[(set(), {"is_training": False}), ({"train"}, {"is_training": True})],
    )
    spec.export(output_dir, checkpoint_path=checkpoint, name_transform_fn="{}/ExponentialMovingAverage".format)


if __name__ == "__main__":
    main(*sys.argv[1:])
