"""Makes a release in the process from which releases are forked, so that they find imports and caches warm."""

from pathlib import Path
import tempfile

from hubexport.build import BuildOrder
from hubexport.config_files import select_variants
from hubexport.release.options import ReleaseOptions
from hubexport.release.release_modules import release_modules
from hubexport.verify.checks.registry import select_checks
import tests.release_misfortunes  # noqa: F401
from tests.release_runs import CHEAP, two_variants

with tempfile.TemporaryDirectory() as folder:
    options = ReleaseOptions("synthetic", checks=tuple(check.name for check in select_checks(CHEAP[1:])))
    variants = select_variants(["one", "two"], two_variants(Path(folder) / "configs"))
    release_modules([BuildOrder(variant, variant.modules) for variant in variants], options, Path(folder) / "dist")
