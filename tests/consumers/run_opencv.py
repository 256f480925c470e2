"""Runs ONNX models in OpenCV.

    python run_opencv.py TASK.json ANSWER.json

It needs opencv-python. It makes no judgements: tests do.

TASK.json: {"modules": [{
    "model": the `.onnx` file,
    "images": npz with `images`, what the model takes,
    "outputs": where to write what OpenCV gives for them, npz by name}, ...]}
ANSWER.json: {"opencv", "modules": [{"outputs": the names of its outputs}, ...]}
"""

import json
import sys

import cv2
import numpy as np


def main(task_file, answer_file):
    with open(task_file) as f:
        tasks = json.load(f)["modules"]
    with open(answer_file, "w") as f:
        json.dump({"opencv": cv2.__version__, "modules": [run(task) for task in tasks]}, f)


def run(task):
    net = cv2.dnn.readNetFromONNX(task["model"])
    with np.load(task["images"]) as given:
        images = given["images"]
    net.setInput(images, "images")
    names = list(net.getUnconnectedOutLayersNames())
    np.savez(task["outputs"], **dict(zip(names, net.forward(names))))
    return {"outputs": names}


if __name__ == "__main__":
    main(*sys.argv[1:])
