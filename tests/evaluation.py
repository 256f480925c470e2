"""Runs evaluations in this process, and writes TFRecords like those of TF-Slim's scripts for ImageNet."""

import argparse
from collections.abc import Iterable
import json
from pathlib import Path
from typing import Any

import pytest
import tensorflow as tf

from hubexport.cli import evaluate


def run_evaluate(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> tuple[dict[str, Any], str]:
    """Runs `hubexport evaluate` in this process, where TensorFlow is already loaded.

    Returns:
        The parsed JSON result, and the text on stderr.
    """
    parser = argparse.ArgumentParser()
    evaluate.add_arguments(parser)
    assert evaluate.run(parser.parse_args([*map(str, arguments), "--format", "json"])) == 0
    output, said = capsys.readouterr()
    return json.loads(output), said


def write_records(path: Path, images: Iterable[tuple[bytes, int]]) -> None:
    """Writes records of images, each given as the content of a file and a label."""
    with tf.io.TFRecordWriter(str(path)) as writer:
        for number, (encoded, label) in enumerate(images):
            features = {
                "image/encoded": tf.train.Feature(bytes_list=tf.train.BytesList(value=[encoded])),
                "image/class/label": tf.train.Feature(int64_list=tf.train.Int64List(value=[label])),
                "image/filename": tf.train.Feature(bytes_list=tf.train.BytesList(value=[b"%d.JPEG" % number])),
                "image/format": tf.train.Feature(bytes_list=tf.train.BytesList(value=[b"JPEG"])),
            }
            writer.write(tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString())
