"""hubexport turns TF-Slim image checkpoints into TensorFlow Hub modules that every TensorFlow from 1.7 on loads.

import hubexport

variant = hubexport.load_variant("mobilenet_v2_075_192")
[path] = hubexport.build_modules(variant, ["feature_vector/2"])
"""

import importlib
from typing import TYPE_CHECKING, Any

from hubexport.version import __version__  # noqa: F401  Public.

__all__ = [
    "Accuracy",
    "Beam",
    "BuildOptions",
    "BuildOrder",
    "BuildOutcome",
    "CheckpointReport",
    "Classification",
    "Comparison",
    "Downloads",
    "Evaluation",
    "HubexportError",
    "ModuleReport",
    "ModuleSpec",
    "Progress",
    "ReleaseOptions",
    "Score",
    "Variant",
    "Verification",
    "build_batch",
    "build_modules",
    "check_release",
    "classify",
    "compare",
    "convert",
    "describe",
    "evaluate",
    "extract_features",
    "list_variants",
    "load_variant",
    "release_modules",
    "verify_module",
    "write_site",
]

if TYPE_CHECKING:
    from hubexport.batch import BuildOptions, BuildOrder, BuildOutcome, build_batch
    from hubexport.beam.options import Beam
    from hubexport.build import build_modules
    from hubexport.checkpoints.checkpoint_report import CheckpointReport
    from hubexport.checkpoints.download_cache import Downloads
    from hubexport.comparison import Comparison, compare
    from hubexport.config_files import list_variants, load_variant
    from hubexport.conversion import convert
    from hubexport.description import describe
    from hubexport.errors import HubexportError
    from hubexport.evaluation.evaluation import evaluate
    from hubexport.evaluation.result import Accuracy, Evaluation
    from hubexport.images.classification import Classification, Score, classify
    from hubexport.images.feature_extraction import extract_features
    from hubexport.modules.module_report import ModuleReport
    from hubexport.progress import Progress
    from hubexport.release.check import check_release
    from hubexport.release.plan import ReleaseOptions
    from hubexport.release.release_modules import release_modules
    from hubexport.site.static_site import write_site
    from hubexport.variants import ModuleSpec, Variant
    from hubexport.verify.result import Verification
    from hubexport.verify.verify_module import verify_module

_HOMES = {
    "Accuracy": "hubexport.evaluation.result",
    "Beam": "hubexport.beam.options",
    "BuildOptions": "hubexport.batch",
    "BuildOrder": "hubexport.batch",
    "BuildOutcome": "hubexport.batch",
    "CheckpointReport": "hubexport.checkpoints.checkpoint_report",
    "Classification": "hubexport.images.classification",
    "Comparison": "hubexport.comparison",
    "Downloads": "hubexport.checkpoints.download_cache",
    "Evaluation": "hubexport.evaluation.result",
    "HubexportError": "hubexport.errors",
    "ModuleReport": "hubexport.modules.module_report",
    "ModuleSpec": "hubexport.variants",
    "Progress": "hubexport.progress",
    "ReleaseOptions": "hubexport.release.plan",
    "Score": "hubexport.images.classification",
    "Variant": "hubexport.variants",
    "Verification": "hubexport.verify.result",
    "build_batch": "hubexport.batch",
    "build_modules": "hubexport.build",
    "check_release": "hubexport.release.check",
    "classify": "hubexport.images.classification",
    "compare": "hubexport.comparison",
    "convert": "hubexport.conversion",
    "describe": "hubexport.description",
    "evaluate": "hubexport.evaluation.evaluation",
    "extract_features": "hubexport.images.feature_extraction",
    "list_variants": "hubexport.config_files",
    "load_variant": "hubexport.config_files",
    "release_modules": "hubexport.release.release_modules",
    "verify_module": "hubexport.verify.verify_module",
    "write_site": "hubexport.site.static_site",
}

# The modules and rooms that import an extra's packages.
_EXTRAS = {
    "hubexport.images.classification": "tensorflow",
    "hubexport.evaluation": "tensorflow",
    "hubexport.images.feature_extraction": "tensorflow",
    "hubexport.release": "release",
    "hubexport.site": "serve",
}


def __getattr__(name: str) -> Any:
    """Imports a public name on first use, so that `import hubexport` loads neither NumPy nor TensorFlow.

    Raises:
        MissingExtraError: the name needs packages of an extra that is not installed.
    """
    if name in _HOMES:
        home = _HOMES[name]
        if extra := _EXTRAS.get(home) or _EXTRAS.get(home.rpartition(".")[0]):
            importlib.import_module("hubexport.extras").require_extras(f"hubexport.{name}", extra)
        return getattr(importlib.import_module(home), name)
    raise AttributeError(f"module 'hubexport' has no attribute {name!r}")


def __dir__() -> list[str]:
    """Returns the public names, imported or not."""
    return sorted(["__version__", *__all__])
