"""The settings that lie beside Hugging Face's weights: `config.json` and `preprocessor_config.json`.

They come from strangers: a link, a pipe or a gigabyte may have their names, and JSON may say one thing twice.
"""

from collections.abc import Sequence
import dataclasses
import json
import os
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import pydantic

from hubexport.checkpoints.recognize import Recognition
from hubexport.checkpoints.stored_values import DamageError, unique_dict
from hubexport.errors import CheckpointError
from hubexport.layouts.huggingface_settings import ConfigSettings, PreprocessorSettings
from hubexport.networks.registry import NETWORKS
from hubexport.system.regular_files import read_regular_file

CONFIG, PREPROCESSOR = "config.json", "preprocessor_config.json"

# Two names for each of 20,000 classes are 2 MB.
_MAX_BYTES = 16 << 20
# More digits than any number that means something.
_MAX_DIGITS = 1000

_Model = TypeVar("_Model", bound=pydantic.BaseModel)


class _SettingsError(Exception):
    """A file is not what transformers writes; the message says what is wrong with it."""


@dataclasses.dataclass(frozen=True)
class HuggingFaceSettings:
    """What lies beside weights; None for what does not.

    Attributes:
        directory: where they lie.
        config: `config.json`.
        image_processor: `preprocessor_config.json`.
    """

    directory: Path
    config: ConfigSettings | None
    image_processor: PreprocessorSettings | None

    @property
    def depth_multipliers(self) -> Sequence[float]:
        """The network's, if it is told."""
        return [self.config.depth_multiplier] if self.config else []

    @property
    def image_size(self) -> int | None:
        """The height and width of the images in pixels, if that is one number and it is told."""
        if self.config is None or "image_size" not in self.config.model_fields_set:
            return None
        sizes = self.config.image_size if isinstance(self.config.image_size, list) else [self.config.image_size]
        return sizes[0] if len(set(sizes)) == 1 else None

    def problems(self, recognition: Recognition | None) -> tuple[str, ...]:
        """Returns each setting that the network does not have, with its value and what it must be.

        Args:
            recognition: of the weights; None if nobody knows what they are of.
        """
        if self.config is None:
            return ()
        network = recognition.network() if recognition else NETWORKS["mobilenet_v2"](1.0, 224, None)
        return tuple(self.config.problems(network, recognition.depth_multiplier if recognition else None))

    def warnings(self, recognition: Recognition) -> list[str]:
        """Returns how images would be prepared otherwise than modules do it."""
        if self.image_processor is None:
            return []
        found = self.image_processor.warnings(recognition.network().input_range)
        return [f"{self.directory / PREPROCESSOR}: {warning}" for warning in found]

    def refusal(self, problems: Sequence[str]) -> CheckpointError:
        """Returns the error for settings that the network does not have."""
        return CheckpointError(
            f"cannot use the weights of {self.directory}",
            why=f"its {CONFIG} describes a network that hubexport does not have",
            details=problems,
            fix=f"use weights that were trained with these settings, or move them if that {CONFIG} is not theirs",
        )


def read_settings(directory: Path) -> HuggingFaceSettings:
    """Reads what lies in a directory beside weights.

    Raises:
        CheckpointError: a file cannot be read, is too large, is no JSON object, or has a setting of a wrong type.
    """
    try:
        return HuggingFaceSettings(
            directory, _read(directory / CONFIG, ConfigSettings), _read(directory / PREPROCESSOR, PreprocessorSettings)
        )
    except _SettingsError as error:
        raise CheckpointError(
            f"cannot read the settings of {directory}",
            why=str(error),
            fix="fetch or save the model again, or move the weights if that file is not theirs",
        ) from error


def _read(path: Path, model: type[_Model]) -> _Model | None:
    content = _content(path)
    if content is None:
        return None
    try:
        return model.model_validate(_parsed(content, path.name))
    except pydantic.ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise _SettingsError(f"{path.name}: {first['loc'][0]} is wrong: {first['msg']}") from error


def _content(path: Path) -> bytes | None:
    """Returns what is in a file, links followed, as those of Hugging Face's cache; None if there is none."""
    if not os.path.lexists(path):
        return None
    try:
        return read_regular_file(path, _MAX_BYTES)
    except OSError as error:
        raise _SettingsError(f"{path.name} cannot be read: {error.strerror}") from error


def _parsed(content: bytes, name: str) -> dict[str, Any]:
    def refuse(why: str) -> NoReturn:
        raise _SettingsError(f"{name} {why}")

    def whole(text: str) -> int:
        return int(text) if len(text) <= _MAX_DIGITS else refuse(f"holds a number of {len(text)} digits")

    def finite(text: str) -> float:
        number = float(text)
        return number if abs(number) < float("inf") else refuse(f"holds {text[:_MAX_DIGITS]}, which is no number")

    def constant(text: str) -> NoReturn:
        refuse(f"holds {text}, which is no number")

    try:
        parsed = json.loads(
            content.decode(),
            object_pairs_hook=unique_dict,
            parse_int=whole,
            parse_float=finite,
            parse_constant=constant,
        )
    except RecursionError:
        refuse("is nested too deeply")
    except DamageError as error:
        raise _SettingsError(f"{name} cannot be read: {error}") from error
    except ValueError as error:
        raise _SettingsError(f"{name} is not valid JSON") from error
    return parsed if isinstance(parsed, dict) else refuse("is not an object")
