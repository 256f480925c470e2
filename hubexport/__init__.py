"""hubexport turns TF-Slim image checkpoints into TensorFlow Hub modules that every TensorFlow from 1.7 on loads.

import hubexport

variant = hubexport.load_variant("mobilenet_v2_075_192")
[path] = hubexport.build_modules(variant, ["feature_vector/2"])
"""

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

__all__ = [
    "Accuracy",
    "Beam",
    "CheckpointReport",
    "Classification",
    "Comparison",
    "Downloads",
    "Evaluation",
    "HubexportError",
    "ModuleReport",
    "ModuleSpec",
    "Options",
    "Order",
    "Outcome",
    "Progress",
    "Recipe",
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
    from hubexport.batch import Options, Order, Outcome, build_batch
    from hubexport.beam.options import Beam
    from hubexport.build import build_modules
    from hubexport.checkpoints.cache import Downloads
    from hubexport.classification import Classification, Score, classify
    from hubexport.comparison import Comparison, compare
    from hubexport.config_files import list_variants, load_variant
    from hubexport.conversion import convert
    from hubexport.errors import HubexportError
    from hubexport.evaluation.evaluation import evaluate
    from hubexport.evaluation.result import Accuracy, Evaluation
    from hubexport.feature_extraction import extract_features
    from hubexport.inspection.checkpoint import CheckpointReport
    from hubexport.inspection.module import ModuleReport
    from hubexport.inspection.path import describe
    from hubexport.progress import Progress
    from hubexport.release.check import check_release
    from hubexport.release.plan import Recipe
    from hubexport.release.run import release_modules
    from hubexport.site.writing import write_site
    from hubexport.variants import ModuleSpec, Variant
    from hubexport.verify.result import Verification
    from hubexport.verify.verification import verify_module

_HOMES = {
    "Accuracy": "hubexport.evaluation.result",
    "Beam": "hubexport.beam.options",
    "CheckpointReport": "hubexport.inspection.checkpoint",
    "Classification": "hubexport.classification",
    "Comparison": "hubexport.comparison",
    "Downloads": "hubexport.checkpoints.cache",
    "Evaluation": "hubexport.evaluation.result",
    "HubexportError": "hubexport.errors",
    "ModuleReport": "hubexport.inspection.module",
    "ModuleSpec": "hubexport.variants",
    "Options": "hubexport.batch",
    "Order": "hubexport.batch",
    "Outcome": "hubexport.batch",
    "Progress": "hubexport.progress",
    "Recipe": "hubexport.release.plan",
    "Score": "hubexport.classification",
    "Variant": "hubexport.variants",
    "Verification": "hubexport.verify.result",
    "build_batch": "hubexport.batch",
    "build_modules": "hubexport.build",
    "check_release": "hubexport.release.check",
    "classify": "hubexport.classification",
    "compare": "hubexport.comparison",
    "convert": "hubexport.conversion",
    "describe": "hubexport.inspection.path",
    "evaluate": "hubexport.evaluation.evaluation",
    "extract_features": "hubexport.feature_extraction",
    "list_variants": "hubexport.config_files",
    "load_variant": "hubexport.config_files",
    "release_modules": "hubexport.release.run",
    "verify_module": "hubexport.verify.verification",
    "write_site": "hubexport.site.writing",
}

# The modules and rooms that import an extra's packages.
_EXTRAS = {
    "hubexport.classification": "tensorflow",
    "hubexport.evaluation": "tensorflow",
    "hubexport.feature_extraction": "tensorflow",
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
