"""Fixtures that several test modules share, and the report on groups of long tests."""

from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

from hubexport.config_files import load_variant
from hubexport.variants import Variant
from tests.command import hubexport
from tests.deployed_releases import DEPLOYMENTS, with_deployments

# The smallest network with seven classes.
SMALL = """\
network: mobilenet_v2
depth_multiplier: 0.35
image_size: 96
num_classes: 7
dataset: made up
checkpoint:
  url: https://example.invalid/small.tgz
  sha256: 71a814047d7729bad711ae3e7db30e6c32999a1189f88d328b73939f7aa80d62
  name: small.ckpt
modules:
  - feature_vector/2
  - classification/2
"""

# The markers of the groups of `make test-long`, see setup.cfg. A test with several markers belongs to the first.
_GROUPS = ("browser", "consumers", "fuzz", "faults", "slow")


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Prints how long each group of long tests took, summed over all processes."""
    seconds: dict[str, float] = defaultdict(float)
    tests: dict[str, int] = defaultdict(int)
    for reports in terminalreporter.stats.values():
        for report in reports:
            group = next((group for group in _GROUPS if group in getattr(report, "keywords", ())), None)
            if group is not None:
                seconds[group] += getattr(report, "duration", 0.0)
                tests[group] += getattr(report, "when", None) == "call"
    if seconds:
        terminalreporter.section("groups")
    for group in seconds:
        terminalreporter.write_line(f"{group:12}{tests[group]:6} tests {seconds[group]:8.0f} s")


@pytest.fixture
def config_dir(tmp_path: Path) -> Path:
    """A folder with one config, `small`: the smallest network with seven classes."""
    folder = tmp_path / "configs"
    folder.mkdir()
    (folder / "small.yaml").write_text(SMALL)
    return folder


@pytest.fixture
def small(config_dir: Path) -> Variant:
    """The variant `small`."""
    return load_variant("small", config_dir)


@pytest.fixture(scope="session")
def small_release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A release of five modules of `small`. Tests must not change it."""
    folder = tmp_path_factory.mktemp("small_release")
    (folder / "small.yaml").write_text(SMALL)
    modules = ("feature_vector/1", "feature_vector/2", "feature_vector/5", "classification/3", "classification/5")
    arguments = ("--config-dir", folder, "--variant", "small", "--checkpoint", "synthetic", "--output-dir")
    done = hubexport(
        "release", *arguments, folder / "dist", "--checks", "structure.digests", "--module", ",".join(modules)
    )
    assert done.returncode == 0, done.stderr
    return folder / "dist"


@pytest.fixture(scope="session")
def deployed_release(small_release: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same release with deployments of one of its modules. Tests must not change it."""
    folder = tmp_path_factory.mktemp("deployed_release") / "dist"
    return with_deployments(small_release, folder, "google/imagenet/small/classification/5", DEPLOYMENTS)
