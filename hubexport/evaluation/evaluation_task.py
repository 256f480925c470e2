"""One evaluation, as everything that takes part in it sees it: a module, a dataset and the options."""

from collections.abc import Mapping
import dataclasses
import functools
import hashlib
import json
from typing import Any

from hubexport.engines import Engine
from hubexport.evaluation.evaluation_options import EvaluationOptions
from hubexport.evaluation.find_dataset import Dataset
from hubexport.modules.image_interface import ImageInterface
from hubexport.modules.interface_hints import InterfaceHints

_FIRST_ENGINE: Engine = "tensorflow"


@dataclasses.dataclass(frozen=True)
class EvaluationTask:
    """What to evaluate, and how.

    Attributes:
        interface: how to run the module.
        dataset: the labelled images.
        options: how to prepare the images and run the module.
    """

    interface: ImageInterface
    dataset: Dataset
    options: EvaluationOptions

    @functools.cached_property
    def file_digests(self) -> Mapping[str, str]:
        """The SHA-256 of each of the module's files, by its path in the module.

        Raises:
            ModuleError: the module's files cannot be read.
        """
        return self.interface.file_digests()

    def key(self) -> str:
        """Returns a SHA-256 of everything that the result depends on: the module's files, the data and the options.

        Raises:
            ModuleError: the module's files cannot be read.
        """
        facts: dict[str, Any] = {
            "module": self.file_digests,
            "data": self.dataset.listing,
            "preprocessing": self.options.preprocessing,
        }
        if self.options.engine not in (None, _FIRST_ENGINE):  # The key is older than the choice.
            facts["engine"] = self.options.engine
        if self.interface.hints != InterfaceHints():
            # "told" is the name in the keys of results that are kept already.
            told = dataclasses.asdict(self.interface.hints)
            if self.interface.hints.image_size is None:  # These keys are older than this hint.
                del told["image_size"]
            facts["told"] = told
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
