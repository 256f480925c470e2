"""Runs Hugging Face's MobileNetV2ForImageClassification from directories with all kinds of settings.

    python run_torch_settings.py TASK.json ANSWER.json

TASK.json: {"modules": [{
    "directory": the directory to load,
    "images": npz with `images`, float32 [batch, height, width, 3] in [0, 1],
    "outputs": where to write `logits`, npz}, ...]}
ANSWER.json: {"modules": [{"error": why the directory cannot be loaded completely or run, or null}, ...]}
"""

import json
import os
import sys

# Everything is local.
os.environ["HF_HUB_OFFLINE"] = "1"

import numpy as np  # noqa: E402
import torch  # noqa: E402
from transformers import AutoModelForImageClassification, MobileNetV2ForImageClassification  # noqa: E402


def main(task_file, answer_file):
    with open(task_file) as f:
        tasks = json.load(f)["modules"]
    with open(answer_file, "w") as f:
        json.dump({"modules": [{"error": run(task)} for task in tasks]}, f)


def run(task):
    with np.load(task["images"]) as inputs:
        images = torch.from_numpy(inputs["images"] * 2 - 1).permute(0, 3, 1, 2)
    with open(os.path.join(task["directory"], "config.json")) as f:
        config = json.load(f)
    # Only a program that names the class can load a config without model type.
    kind = AutoModelForImageClassification if "model_type" in config else MobileNetV2ForImageClassification
    try:
        if config.get("architectures", [""])[0].endswith("Segmentation"):
            raise ValueError("its model gives maps, not logits")
        model, info = kind.from_pretrained(task["directory"], output_loading_info=True)
        if problems := {key: sorted(map(str, names)) for key, names in info.items() if names}:
            raise ValueError(str(problems))
        with torch.no_grad():
            logits = model(pixel_values=images).logits
    except Exception as error:  # noqa: BLE001  transformers raises many kinds.
        return f"{type(error).__name__}: {error}"[:300]
    np.savez(task["outputs"], logits=logits.numpy())
    return None


if __name__ == "__main__":
    main(*sys.argv[1:])
