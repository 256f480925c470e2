"""The real data that some tests need, and the marker that skips them without it."""

from collections.abc import Mapping
import csv
import json
import os
from pathlib import Path

import numpy as np
import pytest

from hubexport.networks.network import Network
from hubexport.networks.numpy_forward import Forward
from hubexport.variants import Variant
from hubexport.verify.sample_images import random_images

REPOSITORY = Path(__file__).parents[1]
DATA = Path(os.environ.get("HUBEXPORT_TEST_DATA") or REPOSITORY.parent / "shared" / "data")
MAKE_CHECKPOINT = DATA.parent / "scripts" / "make_checkpoint.py"

needs_data = pytest.mark.skipif(
    not DATA.is_dir(), reason=f"needs the real weights and photographs in {DATA}; see HUBEXPORT_TEST_DATA"
)

REAL_ARCHIVE = DATA / "mobilenet_v2_1.0_224.tgz"
REAL_MOBILENET_V1 = DATA / "real" / "mobilenet_v1_1.0_224.tgz"
REAL_MOBILENET_V1_TOP3 = DATA / "real" / "expected_top3_mobilenet_v1_1.0_224.json"
REAL_INCEPTION_V3 = DATA / "real" / "inception_v3_256.tar.gz"
REAL_INCEPTION_V3_OUTPUTS = DATA / "real" / "ref_inception_v3_256.npz"
_REFERENCES = {"mobilenet_v2_075_192": "ref_0.75_192", "mobilenet_v2_050_96": "ref_0.5_96"}


def published_table() -> list[dict[str, str]]:
    """Returns the table of published checkpoints, one row for each."""
    with (DATA / "mobilenet_v2_checkpoints.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def network_table() -> dict[str, dict[str, str]]:
    """Returns the table of all networks that TF-Slim or tfhub.dev had, a row by the name of each variant."""
    with (DATA / "networks" / "imagenet_models.csv").open(newline="") as file:
        return {row["variant"]: row for row in csv.DictReader(file)}


def reference_outputs(variant: str) -> dict[str, np.ndarray]:
    """Returns images in [0, 1], and what an independent PyTorch network computed for them with synthetic:1's values."""
    with np.load(DATA / "reference" / f"{_REFERENCES[variant]}.npz") as arrays:
        return {
            "images": arrays["images_uint8"].astype(np.float32) / 255,
            "image_feature_vector": arrays["image_feature_vector"],
            "image_classification": arrays["image_classification"],
        }


def expected_outputs(
    variant: Variant, network: Network, values: Mapping[str, np.ndarray]
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Returns images in [0, 1], and what a network computes for them.

    Where an independent PyTorch network has computed it with synthetic:1's values, it is that; or else what float64
    gives.
    """
    if variant.name in _REFERENCES:
        outputs = reference_outputs(variant.name)
        return outputs.pop("images"), outputs
    noise_and_clouds = random_images(*network.default_image_size).images
    images = np.concatenate([noise_and_clouds, 1 - noise_and_clouds[:, ::-1]])
    computed = Forward(network, values, images).run()
    ops = {"image_feature_vector": network.features, "image_classification": network.logits}
    return images, {name: computed[op] for name, op in ops.items() if op}


def photographs(size: int) -> tuple[np.ndarray, list[int]]:
    """Returns the eight photographs, float32 [8, size, size, 3] in [0, 1], and the index of each one's class."""
    from PIL import Image

    expected = json.loads((DATA / "images" / "expected_top3.json").read_text())
    images = []
    for name in expected:
        with Image.open(DATA / "images" / name) as image:
            resized = image.convert("RGB").resize((size, size), Image.Resampling.BILINEAR)
            images.append(np.asarray(resized, np.float32) / 255)
    return np.stack(images), [top3[0][0] for top3 in expected.values()]
