"""Classifies photographs with TFLite models in MediaPipe, which knows of them what their metadata says.

    python run_mediapipe.py TASK.json ANSWER.json

It makes no judgements: tests do.

TASK.json: {"modules": [{"model": the `.tflite` file, "photographs": {name: file}}, ...]}
ANSWER.json: {"modules": [{
    "metadata": what MediaPipe's reader finds,
    "files": the names of the files in the model,
    "best": the name of the best class of each photograph, by the photograph's name}, ...]}
"""

import json
import sys

import mediapipe
from mediapipe.tasks.python import BaseOptions, vision
from mediapipe.tasks.python.metadata import metadata


def main(task_file, answer_file):
    with open(task_file) as f:
        tasks = json.load(f)["modules"]
    with open(answer_file, "w") as f:
        json.dump({"modules": [run(task) for task in tasks]}, f)


def run(task):
    displayer = metadata.MetadataDisplayer.with_model_file(task["model"])
    options = vision.ImageClassifierOptions(base_options=BaseOptions(model_asset_path=task["model"]), max_results=1)
    best = {}
    with vision.ImageClassifier.create_from_options(options) as classifier:
        for name, file in task["photographs"].items():
            result = classifier.classify(mediapipe.Image.create_from_file(file))
            [category] = result.classifications[0].categories
            best[name] = category.category_name
    return {
        "metadata": json.loads(displayer.get_metadata_json()),
        "files": displayer.get_packed_associated_file_list(),
        "best": best,
    }


if __name__ == "__main__":
    main(*sys.argv[1:])
