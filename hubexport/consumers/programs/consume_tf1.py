"""Uses hub modules as a program of its time would, and writes down what it saw.

    python consume_tf1.py TASK.json SEEN.json

It needs nothing but some TensorFlow from 1.7 on, a tensorflow_hub of that time and what they bring along, so it is
written for Python 3.6. It judges nothing: `hubexport.consumers.judge_tf1` compares what was seen with what is promised.

TASK.json: {"modules": [{"path", "version", "inputs": npz with `images` float32 [batch, height, width, 3],
"outputs": where the predictions go (npz), "export": where a re-export goes, "try_load": whether to try hub.load beside
hub.Module, where both can load the module, which takes seconds, "fine_tune": whether to try training and exporting
with hub.Module, too, which takes most of the time}, ...]}
SEEN.json: {"tensorflow", "tensorflow_hub", "modules": [one object of facts a module]}
"""

import json
import os
import sys

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import numpy as np  # noqa: E402
import tensorflow  # noqa: E402
import tensorflow_hub as hub  # noqa: E402

tf = tensorflow.compat.v1 if hasattr(tensorflow.compat, "v1") else tensorflow

# Those of all layers take hundreds of megabytes a module; two images show as much as nine.
ENDPOINT_IMAGES = 2
STEPS = 6
LEARNING_RATE = 0.003


def main(task_file, seen_file):
    with open(task_file) as f:
        task = json.load(f)
    seen = {
        "tensorflow": tensorflow.__version__,
        "tensorflow_hub": hub.__version__,
        "modules": see(task["modules"]),
    }
    with open(seen_file, "w") as f:
        json.dump(seen, f)


def see(modules):
    if not hasattr(hub, "Module"):
        return [dict(see_with_hub_load(module), apis=["hub.load"]) for module in modules]
    # First of all: hub.Module wants eager execution off, and it cannot be put on again.
    loaded = [see_with_hub_load(module) if tries_load(module) else None for module in modules]
    return [see_with_both(module, found) for module, found in zip(modules, loaded)]


def tries_load(module):
    return module["try_load"] and tensorflow.__version__ >= "2"


def see_with_both(module, loaded):
    if loaded is None:
        return dict(see_with_hub_module(module), apis=["hub.Module"])
    with np.load(module["outputs"]) as arrays:
        of_load = {key: arrays[key] for key in arrays.files if key.endswith(":default")}
    facts = dict(see_with_hub_module(module), apis=["hub.Module", "hub.load"])
    with np.load(module["outputs"]) as arrays:
        facts["error_of_load"] = max(float(np.abs(arrays[key] - value).max()) for key, value in of_load.items())
    return facts


def see_with_hub_load(module):
    """In TensorFlow 2: the inference graph's signatures as functions."""
    images = np.load(module["inputs"])["images"]
    loaded = hub.load(module["path"])
    predictions = {}
    for name, function in loaded.signatures.items():
        inputs = {"images": tensorflow.constant(images)}
        if "with_bn_hparams" in name:
            inputs["batch_norm_momentum"] = tensorflow.constant(0.9)
        for key, value in function(**inputs).items():
            predictions["%s:%s" % (name, key)] = value.numpy()
    defaults, endpoints = wanted_predictions(predictions)
    endpoints = {key: value[:ENDPOINT_IMAGES] for key, value in endpoints.items()}
    np.savez(module["outputs"], **dict(defaults, **endpoints))
    return {"signatures": sorted(loaded.signatures)}


def see_with_hub_module(module):
    """TensorFlow 1 style, on TensorFlow 1 and 2: both graph versions."""
    if hasattr(tf, "disable_eager_execution"):
        tf.disable_eager_execution()
    images = np.load(module["inputs"])["images"]
    facts = {}
    see_interface(module["path"], facts)
    see_inference(module, images, facts)
    if module["fine_tune"]:
        see_training_mode(module, images[:4], facts)
        see_fine_tuning(module["path"], images[:4], facts)
    return facts


def see_interface(path, facts):
    with tf.Graph().as_default():
        spec = hub.load_module_spec(path)
        facts["tags"] = sorted(sorted(tags) for tags in spec.get_tags())
        facts["signatures"] = sorted(spec.get_signature_names())
        facts["train_signatures"] = sorted(spec.get_signature_names(tags={"train"}))
        facts["expected_image_size"] = hub.get_expected_image_size(spec)
        facts["knows_image_module_info"] = hasattr(hub, "get_image_module_info")
        facts["image_module_info"] = facts["knows_image_module_info"] and hub.get_image_module_info(spec) is not None
        facts["outputs"] = {
            name: {k: v.get_shape().as_list() for k, v in spec.get_output_info_dict(name).items()}
            for name in facts["signatures"]
        }
        facts["inputs"] = {
            name: {k: v.get_shape().as_list() for k, v in spec.get_input_info_dict(name).items()}
            for name in facts["signatures"]
        }


def see_inference(module, images, facts):
    """Predictions of all signatures; what inference leaves alone; that a re-export, if asked for, predicts the same."""
    with tf.Graph().as_default(), tf.Session() as session:
        placeholder = tf.placeholder(tf.float32, [None] + list(images.shape[1:]))
        instance = hub.Module(module["path"], trainable=True)
        outputs = {
            "%s:%s" % (name, key): tensor
            for name in facts["signatures"]
            for key, tensor in apply(instance, placeholder, name, 0.9).items()
        }
        facts["update_ops_of_inference"] = len(tf.get_collection(tf.GraphKeys.UPDATE_OPS))
        facts["variables"] = [v.op.name.split("/", 1)[1] for v in tf.global_variables()]
        facts["trainable_variables"] = [v.op.name.split("/", 1)[1] for v in tf.trainable_variables()]
        session.run(tf.global_variables_initializer())
        before = session.run(tf.global_variables())
        defaults, endpoints = wanted_predictions(outputs)
        predictions = session.run(defaults, {placeholder: images})
        predictions.update(session.run(endpoints, {placeholder: images[:ENDPOINT_IMAGES]}))
        after = session.run(tf.global_variables())
        facts["changed_by_inference"] = sum(not np.array_equal(a, b) for a, b in zip(before, after))
        np.savez(module["outputs"], **predictions)
        if not module["fine_tune"]:
            return
        instance.export(module["export"], session)
    with tf.Graph().as_default(), tf.Session() as session:
        again = hub.Module(module["export"])(tf.constant(images))
        session.run(tf.global_variables_initializer())
        facts["error_of_reexport"] = float(np.abs(session.run(again) - predictions["default:default"]).max())


def see_training_mode(module, images, facts):
    """Update ops, dropout, regularization and gradients of the graph version {"train"}, applied twice."""
    momentum = 0.6 if module["version"] >= 3 else 0.997
    with tf.Graph().as_default(), tf.Session() as session:
        placeholder = tf.placeholder(tf.float32, [None] + list(images.shape[1:]))
        instance = hub.Module(module["path"], trainable=True, tags={"train"})
        signature = "image_feature_vector" + ("_with_bn_hparams" if module["version"] >= 3 else "")
        features = apply(instance, placeholder, signature, momentum)["default"]
        first = newest_application(0)
        # On the negative, so that its batch statistics are others.
        apply(instance, 1 - placeholder, signature, momentum)
        second = newest_application(len(first["updates"]))
        default = instance(placeholder)
        losses = tf.get_collection(tf.GraphKeys.REGULARIZATION_LOSSES)
        session.run(tf.global_variables_initializer())
        feed = {placeholder: images}

        facts["update_ops"] = [len(first["updates"]), len(second["updates"])]
        facts["regularization_losses"] = len(losses)
        facts["regularization_loss"] = float(np.sum(session.run(losses), dtype=np.float64))
        # At once: TensorFlow works through the whole graph for each new set of what is fetched.
        weights = session.run([v for v in tf.trainable_variables() if v.op.name.endswith("/weights")])
        facts["regularization_loss_by_hand"] = sum(
            4e-5 / 2 * float(np.sum(np.square(value.astype(np.float64)))) for value in weights
        )
        facts["features_repeat"] = bool(np.array_equal(session.run(features, feed), session.run(features, feed)))
        facts["default_repeats"] = bool(np.array_equal(session.run(default, feed), session.run(default, feed)))
        facts["errors_of_moving_averages"] = [
            error_of_updates(session, application, feed, momentum, instance.variable_map)
            for application in (first, second)
        ]
        see_gradients(session, default, feed, facts)


def newest_application(known_updates):
    """The update ops and batch norms that the latest application of a module has brought."""
    updates = tf.get_collection(tf.GraphKeys.UPDATE_OPS)[known_updates:]
    operations = tf.get_default_graph().get_operations()
    batch_norms = [op for op in operations if op.type.startswith("FusedBatchNorm")]
    return {"updates": updates, "batch_norms": batch_norms[len(batch_norms) - len(updates) // 2 :]}


def error_of_updates(session, application, feed, momentum, variable_map):
    """Largest relative error of `moving += (1 - momentum) * (batch statistic - moving)`, computed in float64."""
    before = session.run(variable_map)
    batches = session.run([op.inputs[0] for op in application["batch_norms"]], feed)
    session.run(application["updates"], feed)
    after = session.run(variable_map)
    errors = []
    for op, batch in zip(application["batch_norms"], batches):
        scope = op.name.split("/", 1)[1].rpartition("/")[0]
        pixels = batch.astype(np.float64).reshape(-1, batch.shape[-1])
        statistics = {"moving_mean": pixels.mean(0), "moving_variance": pixels.var(0, ddof=1)}
        for name, statistic in statistics.items():
            variable = scope + "/" + name
            step = (1 - momentum) * (statistic - before[variable])
            errors.append(np.abs(after[variable] - before[variable] - step).max() / np.abs(step).max())
    changed = [name for name in before if not np.array_equal(before[name], after[name])]
    return {"largest": float(max(errors)), "changed": sorted({name.rpartition("/")[2] for name in changed})}


def see_gradients(session, output, feed, facts):
    variables = tf.trainable_variables()
    gradients = tf.gradients(tf.reduce_sum(tf.square(output)), variables)
    facts["trainable"] = len(variables)
    facts["gradients"] = sum(g is not None for g in gradients)
    facts["finite_gradients"] = sum(
        bool(np.isfinite(g).all() and np.abs(g).max() > 0) for g in session.run(gradients, feed)
    )


def see_fine_tuning(path, images, facts):
    """A few steps towards made-up labels, batch norm updates and weight decay included.

    Adam takes steps of one size, however small the gradients are: trained networks' are a hundredth of made-up ones'.
    """
    with tf.Graph().as_default(), tf.Session() as session:
        instance = hub.Module(path, trainable=True, tags={"train"})
        features = instance(tf.constant(images), signature="image_feature_vector")
        head = tf.get_variable("head", [features.get_shape().as_list()[-1], 2], initializer=tf.zeros_initializer())
        labels = tf.constant(np.arange(len(images)) % 2)
        loss = tf.reduce_mean(
            tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=tf.matmul(features, head))
        )
        total = loss + tf.add_n(tf.get_collection(tf.GraphKeys.REGULARIZATION_LOSSES))
        optimizer = tf.train.AdamOptimizer(LEARNING_RATE)
        with tf.control_dependencies(tf.get_collection(tf.GraphKeys.UPDATE_OPS)):
            train = optimizer.minimize(total)
        session.run(tf.global_variables_initializer())
        losses = []
        for _ in range(STEPS):
            losses.append(float(session.run([loss, train])[0]))
        facts["losses"] = losses


def apply(instance, images, signature, momentum):
    inputs = {"images": images}
    if signature.endswith("_with_bn_hparams"):
        inputs["batch_norm_momentum"] = tf.constant(momentum)
    return instance(inputs, signature=signature, as_dict=True)


def wanted_predictions(outputs):
    """The outputs that are compared: every signature's default, and of one signature all endpoints."""
    defaults = {key: value for key, value in outputs.items() if key.endswith(":default")}
    endpoints = {key: value for key, value in outputs.items() if key.startswith("default:") and key not in defaults}
    return defaults, endpoints


if __name__ == "__main__":
    main(*sys.argv[1:])
