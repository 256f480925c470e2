"""Reads the index of values that are split into several safetensors files: which file has which value.

Hugging Face calls the index `model.safetensors.index.json`. It is not trusted: it may name any file.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
import json
from pathlib import Path

from hubexport.checkpoints.stored_values import unique_dict
from hubexport.system.damage import DamageError, damage_in
from hubexport.system.regular_files import read_regular_file

SAFETENSORS_INDEX_SUFFIX = ".safetensors.index.json"

# A thousand times the index of a network with 500 variables.
_MAX_BYTES = 64 << 20


def names_by_shard(index: Path) -> Mapping[Path, Sequence[str]]:
    """Returns the files beside an index, with the names of the values that each has.

    Raises:
        DamageError: the index is damaged, or names a file elsewhere.
        OSError: it cannot be read.
    """
    content = read_regular_file(index, _MAX_BYTES)
    with damage_in(index.name):
        try:
            [*files] = json.loads(content, object_pairs_hook=unique_dict)["weight_map"].items()
        except DamageError:
            raise
        except (ValueError, RecursionError, KeyError, TypeError, AttributeError) as error:
            raise DamageError("it has no list of values and their files") from error
        if not files:
            raise DamageError("it has no list of values and their files")
        shards: dict[Path, list[str]] = defaultdict(list)
        for name, file in files:
            if not isinstance(file, str) or Path(file).name != file or "\0" in file:
                raise DamageError(f"the file of {name} is not beside it")
            shards[index.parent / file].append(name)
    return shards
