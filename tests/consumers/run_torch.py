"""Runs the MobileNet V2 of Hugging Face's transformers, from a directory or with random weights, and saves it.

    python run_torch.py TASK.json ANSWER.json

It needs only PyTorch, transformers and Pillow. It fails if a directory lacks weights or has unexpected ones; tests
judge everything else.

TASK.json: {"modules": [{
    "directory": the directory to load, or null,
    "config", "seed": arguments of MobileNetV2Config, and the seed of random weights, if there is no directory,
    "headless": whether to use the model without classifier,
    "images": npz with `images`, float32 [batch, height, width, 3] in [0, 1],
    "outputs": where to write `outputs`, npz: logits, or pooled features if headless,
    "photographs": files for the directory's image processor, optional; adds `pixel_values` and
        `outputs_of_photographs` to the outputs,
    "save": a directory to save to, optional}, ...]}
ANSWER.json: {"torch", "transformers", "modules": [{
    "labels": the config's label for the best class of each photograph,
    "image_processor": its class}, ...]}
"""

import json
import os
import sys

# Everything is local.
os.environ["HF_HUB_OFFLINE"] = "1"

from PIL import Image  # noqa: E402
import numpy as np  # noqa: E402
import torch  # noqa: E402
import transformers  # noqa: E402
from transformers import (  # noqa: E402
    AutoImageProcessor,
    MobileNetV2Config,
    MobileNetV2ForImageClassification,
    MobileNetV2Model,
)


def main(task_file, answer_file):
    with open(task_file) as f:
        tasks = json.load(f)["modules"]
    answer = {
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "modules": [run_task(task) for task in tasks],
    }
    with open(answer_file, "w") as f:
        json.dump(answer, f)


def run_task(task):
    kind = MobileNetV2Model if task["headless"] else MobileNetV2ForImageClassification
    model = load(kind, task["directory"]) if task["directory"] else random_model(kind, task["config"], task["seed"])
    with np.load(task["images"]) as inputs:
        images = torch.from_numpy(inputs["images"] * 2 - 1).permute(0, 3, 1, 2)
    outputs, facts = {"outputs": run(model, images)}, {}
    if task.get("photographs"):
        run_photographs(model, task, outputs, facts)
    np.savez(task["outputs"], **outputs)
    if task.get("save"):
        model.save_pretrained(task["save"])
    return facts


def load(kind, directory):
    model, info = kind.from_pretrained(directory, output_loading_info=True)
    problems = {key: sorted(map(str, names)) for key, names in info.items() if names}
    assert not problems, f"{directory}: {problems}"
    return model


def random_model(kind, config, seed):
    """Gives all weights, running averages included, random values with which signals neither vanish nor explode."""
    rng = np.random.default_rng(seed)
    model = kind(MobileNetV2Config(**config)).eval()
    values = {key: random_value(rng, key, value) for key, value in model.state_dict().items()}
    model.load_state_dict(values)
    return model


def random_value(rng, key, value):
    shape = tuple(value.shape)
    if key.endswith("num_batches_tracked"):
        return value
    if key.endswith(("normalization.weight", "running_var")):
        array = rng.uniform(0.5, 1.5, shape)
    elif len(shape) == 1:
        array = rng.normal(0, 0.1, shape)
    else:
        # The first axis is the outputs'; the second axis of a depthwise kernel has length 1.
        array = rng.normal(0, np.sqrt(2 / np.prod(shape[1:])), shape)
    return torch.from_numpy(array.astype(np.float32))


def run(model, images):
    with torch.no_grad():
        answer = model(pixel_values=images)
    return (answer.logits if "logits" in answer else answer.pooler_output).numpy()


def run_photographs(model, task, outputs, facts):
    """Classifies photographs of any size with nothing but what the directory holds."""
    processor = AutoImageProcessor.from_pretrained(task["directory"])
    pixel_values = processor(
        images=[Image.open(path) for path in task["photographs"]], return_tensors="pt"
    ).pixel_values
    outputs["pixel_values"] = pixel_values.numpy()
    outputs["outputs_of_photographs"] = run(model, pixel_values)
    facts["image_processor"] = type(processor).__name__
    facts["labels"] = [model.config.id2label[int(best)] for best in outputs["outputs_of_photographs"].argmax(-1)]


if __name__ == "__main__":
    main(*sys.argv[1:])
