"""hubexport turns TF-Slim image checkpoints into TensorFlow Hub modules that every TensorFlow from 1.7 on loads.

import hubexport

variant = hubexport.load_variant("mobilenet_v2_075_192")
[path] = hubexport.build_modules(variant, [hubexport.ModuleSpec.parse("feature_vector/2")])
"""

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

__all__ = [
    "CheckpointReport",
    "Comparison",
    "Downloads",
    "HubexportError",
    "ModuleReport",
    "ModuleSpec",
    "Options",
    "Order",
    "Outcome",
    "Recipe",
    "Variant",
    "Verification",
    "build_batch",
    "build_modules",
    "check_release",
    "compare",
    "convert",
    "describe",
    "list_variants",
    "load_variant",
    "release_modules",
    "verify_module",
    "write_site",
]

if TYPE_CHECKING:
    from hubexport.batch import Options, Order, Outcome, build_batch
    from hubexport.build import build_modules
    from hubexport.checkpoints.cache import Downloads
    from hubexport.comparison import Comparison, compare
    from hubexport.config_files import list_variants, load_variant
    from hubexport.conversion import convert
    from hubexport.errors import HubexportError
    from hubexport.inspection.checkpoint import CheckpointReport
    from hubexport.inspection.module import ModuleReport
    from hubexport.inspection.path import describe
    from hubexport.release.check import check_release
    from hubexport.release.plan import Recipe
    from hubexport.release.run import release_modules
    from hubexport.site.writing import write_site
    from hubexport.variants import ModuleSpec, Variant
    from hubexport.verify.result import Verification
    from hubexport.verify.verification import verify_module

_HOMES = {
    "CheckpointReport": "hubexport.inspection.checkpoint",
    "Comparison": "hubexport.comparison",
    "Downloads": "hubexport.checkpoints.cache",
    "HubexportError": "hubexport.errors",
    "ModuleReport": "hubexport.inspection.module",
    "ModuleSpec": "hubexport.variants",
    "Options": "hubexport.batch",
    "Order": "hubexport.batch",
    "Outcome": "hubexport.batch",
    "Recipe": "hubexport.release.plan",
    "Variant": "hubexport.variants",
    "Verification": "hubexport.verify.result",
    "build_batch": "hubexport.batch",
    "build_modules": "hubexport.build",
    "check_release": "hubexport.release.check",
    "compare": "hubexport.comparison",
    "convert": "hubexport.conversion",
    "describe": "hubexport.inspection.path",
    "list_variants": "hubexport.config_files",
    "load_variant": "hubexport.config_files",
    "release_modules": "hubexport.release.run",
    "verify_module": "hubexport.verify.verification",
    "write_site": "hubexport.site.writing",
}

# The rooms whose modules import an extra's packages.
_EXTRAS = {"hubexport.release": "release", "hubexport.site": "serve"}


def __getattr__(name: str) -> Any:
    """Imports a public name's module when it is first asked for: `import hubexport` alone costs nothing.

    Raises:
        MissingExtraError: its module needs packages of an extra that is not installed.
    """
    if name in _HOMES:
        if extra := _EXTRAS.get(_HOMES[name].rpartition(".")[0]):
            importlib.import_module("hubexport.extras").require_extras(f"hubexport.{name}", extra)
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'hubexport' has no attribute {name!r}")
