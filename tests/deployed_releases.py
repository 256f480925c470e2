"""Releases with deployments whose files tests choose, in any format."""

from collections.abc import Mapping
import hashlib
import json
from pathlib import Path
import shutil
from typing import Any

from hubexport.deployment_spec import DEPLOYMENTS_ROOT
from tests.releases import as_json

# A deployment in each format, and more than one in some. Their files are not models.
_TFJS = {"model.json": b"{}", "group1-shard1of2.bin": bytes(3000), "group1-shard2of2.bin": bytes(1000)}
DEPLOYMENTS: Mapping[str, Mapping[str, bytes]] = {
    "onnx": {"model.onnx": bytes(6000)},
    "tfjs": _TFJS,
    "tfjs-float16": {**_TFJS, "group1-shard1of2.bin": bytes(1500)},
    "tflite-dynamic": {"model.tflite": bytes(700)},
    "tflite-float16": {"model.tflite": bytes(1400)},
}
_OPTIONS = {"onnx": {"opset": 17, "layout": "nhwc"}, "tfjs": {"quantize": "none"}, "tflite": {"quantize": "none"}}


def with_deployments(
    release: Path,
    folder: Path,
    module: str,
    deployments: Mapping[str, Mapping[str, bytes]],
    **options: Any,
) -> Path:
    """Copies a release, adds deployments of a module, and returns the copy's folder.

    Args:
        release: the folder of the release.
        folder: where the copy goes; it must not exist.
        module: the module's handle.
        deployments: the files of each deployment by name; the deployments by the last part of their handles, like
            `tflite-float16`.
        options: of the deployments, instead of the usual ones.
    """
    shutil.copytree(release, folder)
    index = json.loads((folder / "index.json").read_bytes())
    [given] = [record for record in index["artifacts"] if record["handle"] == module]
    for name, contents in deployments.items():
        handle = f"{DEPLOYMENTS_ROOT}{module}/{name}"
        form, _, stored = name.partition("-")
        chosen = {"pixels": "float", "softmax": False, **_OPTIONS[form], **({"quantize": stored} if stored else {})}
        record = json.loads(json.dumps(given))
        record |= {"handle": handle, "format": form, "files": {}}
        text = f"# {name} {handle}\nA model.\n\n## Usage\n\nDownload `https://YOUR_HUB/{handle}/`.\n"
        record["files"]["page"] = _written(folder, f"{handle}.md", text.encode())
        manifest = {"hubexport.json": b"{}\n"}
        record["deployment"] = {
            "options": {**chosen, **options},
            "endpoints": [],
            "written_with": {},
            "contents": [
                _written(folder, f"{handle}/{file}", content)
                for file, content in sorted({**manifest, **contents}.items())
            ],
        }
        _written(folder, f"{handle}.json", as_json(record))
        index["artifacts"].append(record)
    index["artifacts"].sort(key=lambda record: record["handle"])
    (folder / "index.json").write_bytes(as_json(index))
    return folder


def _written(folder: Path, path: str, content: bytes) -> dict[str, Any]:
    (folder / path).parent.mkdir(parents=True, exist_ok=True)
    (folder / path).write_bytes(content)
    return {"path": path, "sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
