"""hubexport turns TF-Slim image checkpoints into TensorFlow Hub modules that every TensorFlow from 1.7 on loads.

import hubexport

variant = hubexport.load_variant("mobilenet_v2_075_192")
[path] = hubexport.build_modules(variant, ["feature_vector/2"])
"""

import importlib
from typing import TYPE_CHECKING, Any

from hubexport.version import __version__ as __version__

if TYPE_CHECKING:
    from hubexport.batch import BuildOutcome as BuildOutcome
    from hubexport.batch import build_batch as build_batch
    from hubexport.beam.options import Beam as Beam
    from hubexport.build import BuildOptions as BuildOptions
    from hubexport.build import BuildOrder as BuildOrder
    from hubexport.build import build_modules as build_modules
    from hubexport.checkpoint_variant import recognize_variant as recognize_variant
    from hubexport.checkpoints.checkpoint_report import CheckpointReport as CheckpointReport
    from hubexport.checkpoints.download_cache import Downloads as Downloads
    from hubexport.comparison import Comparison as Comparison
    from hubexport.config_files import list_variants as list_variants
    from hubexport.config_files import load_variant as load_variant
    from hubexport.config_writing import variant_yaml as variant_yaml
    from hubexport.conversion import convert as convert
    from hubexport.deployment_comparison import compare as compare
    from hubexport.deployments.options import OnnxOptions as OnnxOptions
    from hubexport.deployments.options import TfjsOptions as TfjsOptions
    from hubexport.deployments.options import TfliteOptions as TfliteOptions
    from hubexport.deployments.report import DeploymentReport as DeploymentReport
    from hubexport.description import describe as describe
    from hubexport.errors import HubexportError as HubexportError
    from hubexport.evaluation.evaluate_module import evaluate as evaluate
    from hubexport.evaluation.evaluation_result import Accuracy as Accuracy
    from hubexport.evaluation.evaluation_result import Evaluation as Evaluation
    from hubexport.images.calibration import Calibration as Calibration
    from hubexport.images.classification import Classification as Classification
    from hubexport.images.classification import Score as Score
    from hubexport.images.classification import classify as classify
    from hubexport.images.feature_extraction import extract_features as extract_features
    from hubexport.modules.module_report import ModuleReport as ModuleReport
    from hubexport.progress import Progress as Progress
    from hubexport.release.check import check_release as check_release
    from hubexport.release.options import ReleaseOptions as ReleaseOptions
    from hubexport.release.release_modules import release_modules as release_modules
    from hubexport.site.static_site import write_site as write_site
    from hubexport.variants import ModuleSpec as ModuleSpec
    from hubexport.variants import Variant as Variant
    from hubexport.verify.result import Verification as Verification
    from hubexport.verify.verify_module import verify_module as verify_module

# Where each public name is defined. The imports above are for type checkers; a test compares the two.
_MODULES = {
    "Accuracy": "hubexport.evaluation.evaluation_result",
    "Beam": "hubexport.beam.options",
    "BuildOptions": "hubexport.build",
    "BuildOrder": "hubexport.build",
    "BuildOutcome": "hubexport.batch",
    "Calibration": "hubexport.images.calibration",
    "CheckpointReport": "hubexport.checkpoints.checkpoint_report",
    "Classification": "hubexport.images.classification",
    "Comparison": "hubexport.comparison",
    "DeploymentReport": "hubexport.deployments.report",
    "Downloads": "hubexport.checkpoints.download_cache",
    "Evaluation": "hubexport.evaluation.evaluation_result",
    "HubexportError": "hubexport.errors",
    "ModuleReport": "hubexport.modules.module_report",
    "ModuleSpec": "hubexport.variants",
    "OnnxOptions": "hubexport.deployments.options",
    "Progress": "hubexport.progress",
    "ReleaseOptions": "hubexport.release.options",
    "Score": "hubexport.images.classification",
    "TfjsOptions": "hubexport.deployments.options",
    "TfliteOptions": "hubexport.deployments.options",
    "Variant": "hubexport.variants",
    "Verification": "hubexport.verify.result",
    "build_batch": "hubexport.batch",
    "build_modules": "hubexport.build",
    "check_release": "hubexport.release.check",
    "classify": "hubexport.images.classification",
    "compare": "hubexport.deployment_comparison",
    "convert": "hubexport.conversion",
    "describe": "hubexport.description",
    "evaluate": "hubexport.evaluation.evaluate_module",
    "extract_features": "hubexport.images.feature_extraction",
    "list_variants": "hubexport.config_files",
    "load_variant": "hubexport.config_files",
    "recognize_variant": "hubexport.checkpoint_variant",
    "release_modules": "hubexport.release.release_modules",
    "variant_yaml": "hubexport.config_writing",
    "verify_module": "hubexport.verify.verify_module",
    "write_site": "hubexport.site.static_site",
}
__all__ = sorted(_MODULES)

# The extra that each of these rooms needs.
_EXTRAS = {"release": "release", "site": "serve"}
# The rooms that need an engine.
_RUNNING = ("evaluation", "images")


def __getattr__(name: str) -> Any:
    """Imports a public name on first use, so that `import hubexport` loads neither NumPy nor TensorFlow.

    Raises:
        MissingExtraError: the name needs packages of an extra that is not installed.
    """
    if name not in _MODULES:
        raise AttributeError(f"module 'hubexport' has no attribute {name!r}")
    module = _MODULES[name]
    if module.split(".")[1] in _RUNNING:
        importlib.import_module("hubexport.engines").usable_engine(None, f"hubexport.{name}")
    if extra := _EXTRAS.get(module.split(".")[1]):
        importlib.import_module("hubexport.extras").require_extras(f"hubexport.{name}", extra)
    return getattr(importlib.import_module(module), name)


def __dir__() -> list[str]:
    """Returns the public names, whether they are imported yet or not."""
    return sorted(["__version__", *__all__])
