"""Uses TF1 Hub modules as a program of its TensorFlow's time would, and records facts and predictions.

    python consume_tf1.py TASK.json: {"modules": [{
    "path",
    "inputs": npz with `images`, float32 [batch, height, width, 3], and a batch of images for each update, `training_0`
        and so on; for a module that takes any size, `other_images` of another one,
    "outputs": where to write the predictions, and the moving averages after each update, npz,
    "weight_decay": the factors of the variables with weight decay, by name,
    "statistics": the names of the moving averages,
    "updates": [{"batch", "momentum": None for the default}, ...], the updates of the moving averages to try,
    "dropout_runs": how many runs in training mode show what is random,
    "gradient_runs": in one of how many runs in training mode each variable has a gradient,
    "export": where to write a re-export,
    "try_load": whether to try hub.load after hub.Module if both can load the module, which takes seconds,
    "fine_tune": whether to also train and export with hub.Module, which takes most of the time}, ...]}
ANSWER.json: {"tensorflow", "tensorflow_hub", "modules": [the facts of each module]}
"""

import json
import os
import sys

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import numpy as np  # noqa: E402
import tensorflow  # noqa: E402
import tensorflow_hub as hub  # noqa: E402

tf = tensorflow.compat.v1 if hasattr(tensorflow.compat, "v1") else tensorflow

# Endpoints take hundreds of megabytes per module; two images show as much as nine.
ENDPOINT_IMAGES = 2
DROPOUT_IMAGES = 2
STEPS = 6
LEARNING_RATE = 0.003


def main(task_file, answer_file):
    with open(task_file) as f:
        task = json.load(f)
    answer = {
        "tensorflow": tensorflow.__version__,
        "tensorflow_hub": hub.__version__,
        "modules": use_all(task["modules"]),
    }
    with open(answer_file, "w") as f:
        json.dump(answer, f)


def use_all(modules):
    if not hasattr(hub, "Module"):
        return [dict(use_hub_load(module), apis=["hub.load"]) for module in modules]
    # hub.load comes first: hub.Module needs eager execution off, and it cannot be turned on again.
    predictions = [load_and_predict(module) for module in modules]
    return [use_hub_module_after_load(module, loaded) for module, loaded in zip(modules, predictions)]


def load_and_predict(module):
    """Returns the default outputs with hub.load, by signature; None if it is not to be tried."""
    if not module["try_load"] or tensorflow.__version__ < "2":
        return None
    use_hub_load(module)
    with np.load(module["outputs"]) as arrays:
        return {key: arrays[key] for key in arrays.files if key.endswith(":default")}


def use_hub_module_after_load(module, loaded):
    if loaded is None:
        return dict(use_hub_module(module), apis=["hub.Module"])
    facts = dict(use_hub_module(module), apis=["hub.Module", "hub.load"])
    with np.load(module["outputs"]) as arrays:
        facts["error_of_load"] = max(float(np.abs(arrays[key] - value).max()) for key, value in loaded.items())
    return facts


def use_hub_load(module):
    """Calls the signatures of the inference graph as functions, in TensorFlow 2."""
    inputs = read_inputs(module)
    images = inputs["images"]
    loaded = hub.load(module["path"])
    predictions = {}
    for name, function in loaded.signatures.items():
        arguments = {"images": tensorflow.constant(images)}
        if "with_bn_hparams" in name:
            arguments["batch_norm_momentum"] = tensorflow.constant(0.9)
        for key, value in function(**arguments).items():
            predictions["%s:%s" % (name, key)] = value.numpy()
    defaults, endpoints = compared_outputs(predictions)
    endpoints = {key: value[:ENDPOINT_IMAGES] for key, value in endpoints.items()}
    if "other_images" in inputs:
        other = loaded.signatures["default"](images=tensorflow.constant(inputs["other_images"]))
        endpoints["other_size:default"] = other["default"].numpy()
    np.savez(module["outputs"], **dict(defaults, **endpoints))
    return {"signatures": sorted(loaded.signatures)}


def read_inputs(module):
    with np.load(module["inputs"]) as arrays:
        return dict(arrays)


def use_hub_module(module):
    """Uses both graph versions in the style of TensorFlow 1, on TensorFlow 1 and 2."""
    if hasattr(tf, "disable_eager_execution"):
        tf.disable_eager_execution()
    inputs = read_inputs(module)
    images = inputs["images"]
    facts = {}
    record_interface(module["path"], facts)
    results = record_inference(module, images, inputs.get("other_images"), facts)
    if module["fine_tune"]:
        results.update(record_training_mode(module, inputs, facts))
        record_fine_tuning(module["path"], images[:4], facts)
    np.savez(module["outputs"], **results)
    return facts


def record_interface(path, facts):
    with tf.Graph().as_default():
        spec = hub.load_module_spec(path)
        facts["tags"] = sorted(sorted(tags) for tags in spec.get_tags())
        facts["signatures"] = sorted(spec.get_signature_names())
        facts["train_signatures"] = sorted(spec.get_signature_names(tags={"train"}))
        facts["expected_image_size"] = hub.get_expected_image_size(spec)
        facts["knows_image_module_info"] = hasattr(hub, "get_image_module_info")
        facts["image_module_info"] = facts["knows_image_module_info"] and hub.get_image_module_info(spec) is not None
        for key, info in (("inputs", spec.get_input_info_dict), ("outputs", spec.get_output_info_dict)):
            facts[key] = {
                name: {k: v.get_shape().as_list() for k, v in info(name).items()} for name in facts["signatures"]
            }


def record_inference(module, images, other_images, facts):
    """Returns the predictions of all signatures; records what inference changes, and the error of a re-export."""
    with tf.Graph().as_default(), tf.Session() as session:
        placeholder = tf.placeholder(tf.float32, [None] + list(images.shape[1:]))
        instance = hub.Module(module["path"], trainable=True)
        outputs = {
            "%s:%s" % (name, key): tensor
            for name in facts["signatures"]
            for key, tensor in apply(instance, placeholder, name, 0.9).items()
        }
        if other_images is not None:
            other_placeholder = tf.placeholder(tf.float32, [None] + list(other_images.shape[1:]))
            other = instance(other_placeholder)
        facts["update_ops_of_inference"] = len(tf.get_collection(tf.GraphKeys.UPDATE_OPS))
        facts["variables"] = [v.op.name.split("/", 1)[1] for v in tf.global_variables()]
        facts["trainable_variables"] = [v.op.name.split("/", 1)[1] for v in tf.trainable_variables()]
        session.run(tf.global_variables_initializer())
        before = session.run(tf.global_variables())
        defaults, endpoints = compared_outputs(outputs)
        predictions = session.run(defaults, {placeholder: images})
        predictions.update(session.run(endpoints, {placeholder: images[:ENDPOINT_IMAGES]}))
        if other_images is not None:
            predictions["other_size:default"] = session.run(other, {other_placeholder: other_images})
        after = session.run(tf.global_variables())
        facts["changed_by_inference"] = sum(not np.array_equal(a, b) for a, b in zip(before, after))
        if not module["fine_tune"]:
            return predictions
        instance.export(module["export"], session)
    with tf.Graph().as_default(), tf.Session() as session:
        reexported = hub.Module(module["export"])(tf.constant(images))
        session.run(tf.global_variables_initializer())
        facts["error_of_reexport"] = float(np.abs(session.run(reexported) - predictions["default:default"]).max())
    return predictions


def record_training_mode(module, inputs, facts):
    """Applies the graph version {"train"} once for each update, and returns the moving averages after each of them.

    Records update ops, dropout, regularization and gradients. The last update has the default momentum.
    """
    with tf.Graph().as_default(), tf.Session() as session:
        instance = hub.Module(module["path"], trainable=True, tags={"train"})
        feed, updates = {}, []
        for update in module["updates"]:
            batch = inputs["training_%d" % update["batch"]]
            placeholder = tf.placeholder(tf.float32, [None] + list(batch.shape[1:]))
            has_default = update["momentum"] is None
            signature = "default" if has_default else "image_feature_vector_with_bn_hparams"
            known = sum(map(len, updates))
            outputs = apply(instance, placeholder, signature, update["momentum"])
            updates.append(tf.get_collection(tf.GraphKeys.UPDATE_OPS)[known:])
            feed[placeholder] = batch
        losses = tf.get_collection(tf.GraphKeys.REGULARIZATION_LOSSES)
        session.run(tf.global_variables_initializer())

        facts["update_ops"] = [len(ops) for ops in updates]
        facts["regularization_losses"] = len(losses)
        facts["regularization_loss"] = float(np.sum(session.run(losses), dtype=np.float64))
        # All at once: TensorFlow prunes the whole graph anew for each set of fetches.
        first = before = session.run(instance.variable_map)
        facts["regularization_loss_by_hand"] = sum(
            factor / 2 * float(np.sum(np.square(first[name].astype(np.float64))))
            for name, factor in module["weight_decay"].items()
        )
        record_dropout(session, outputs, {placeholder: batch[:DROPOUT_IMAGES]}, module["dropout_runs"], facts)
        averages = {"after_0_updates:%s" % name: before[name] for name in module["statistics"]}
        facts["changed_by_updates"] = []
        for number, ops in enumerate(updates):
            session.run(ops, feed)
            after = session.run(instance.variable_map)
            facts["changed_by_updates"].append(
                sorted(name for name in before if not np.array_equal(before[name], after[name]))
            )
            averages.update({"after_%d_updates:%s" % (number + 1, name): after[name] for name in module["statistics"]})
            before = after
        record_gradients(session, outputs["default"], {placeholder: batch}, module["gradient_runs"], facts)
        return averages


def record_dropout(session, outputs, feed, runs, facts):
    """Records which outputs differ between runs in training mode."""
    first = session.run(outputs, feed)
    random = set()
    for _ in range(runs - 1):
        again = session.run(outputs, feed)
        random |= {key for key, value in again.items() if not np.array_equal(value, first[key])}
    facts["random_outputs"] = sorted(random)


def record_gradients(session, output, feed, runs, facts):
    """Records how many variables have a gradient, and for how many it is finite in all runs and nonzero in some."""
    variables = tf.trainable_variables()
    gradients = tf.gradients(tf.reduce_sum(tf.square(output)), variables)
    facts["trainable"] = len(variables)
    facts["gradients"] = sum(g is not None for g in gradients)
    largest = [[np.abs(g).max() for g in session.run(gradients, feed)] for _ in range(runs)]
    facts["finite_gradients"] = int(np.sum(np.isfinite(largest).all(axis=0) & (np.max(largest, axis=0) > 0)))


def record_fine_tuning(path, images, facts):
    """Takes a few steps towards made-up labels, with batch norm updates and weight decay.

    Adam's steps do not shrink with the gradients, which are a hundred times smaller in trained networks than in random
    ones.
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
        facts["losses"] = [float(session.run([loss, train])[0]) for _ in range(STEPS)]


def apply(instance, images, signature, momentum):
    inputs = {"images": images}
    if signature.endswith("_with_bn_hparams"):
        inputs["batch_norm_momentum"] = tf.constant(momentum)
    return instance(inputs, signature=signature, as_dict=True)


def compared_outputs(outputs):
    """Returns the outputs to compare: the default output of every signature, and the endpoints of one."""
    defaults = {key: value for key, value in outputs.items() if key.endswith(":default")}
    endpoints = {key: value for key, value in outputs.items() if key.startswith("default:") and key not in defaults}
    return defaults, endpoints


if __name__ == "__main__":
    main(*sys.argv[1:])
