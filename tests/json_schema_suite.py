"""The public JSON-Schema-Test-Suite (draft 2020-12), from the source archive of a package."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

# jsonschema carries the suite, https://github.com/json-schema-org/JSON-Schema-Test-Suite (MIT)
PACKAGE = "jsonschema==4.25.1"
ARCHIVE = "jsonschema-4.25.1"
SHA256 = "e4a9655ce0da0c0b67a085847e00a3a51449e1157f4f75e9fb5aa545e122eb85"

FORMATS = (
    *("date", "time", "date-time", "duration", "email", "hostname", "ipv4", "ipv6", "uri"),
    *("uri-reference", "uuid", "json-pointer", "relative-json-pointer"),
)


def download(folder: Path) -> Path:
    """Return the folder of the suite's cases, downloaded and checked."""
    subprocess.run(
        [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--no-binary", ":all:",
         "-d", str(folder), PACKAGE],
        check=True,
    )  # fmt: skip
    archive = folder / f"{ARCHIVE}.tar.gz"
    digest = hashlib.sha256(archive.read_bytes()).hexdigest()
    assert digest == SHA256, f"{archive.name} has the sha256 {digest}"
    with tarfile.open(archive) as opened:
        # Debian 12's Python 3.11.2 has no filters yet; the archive's hash is its check
        safely = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}
        opened.extractall(folder, **safely)  # type: ignore[arg-type]
    return folder / ARCHIVE / "json" / "tests" / "draft2020-12"


def cases(folder: Path) -> dict[str, list[dict[str, Any]]]:
    """Return the files that say what is valid: name → cases."""
    paths = [
        *sorted(folder.glob("*.json")),
        *(folder / "optional" / "format" / f"{name}.json" for name in FORMATS),
        folder / "optional" / "ecmascript-regex.json",
    ]
    return {
        path.relative_to(folder).as_posix().removesuffix(".json"): json.loads(
            path.read_text(encoding="utf-8")
        )
        for path in paths
    }


def instance(data: Any, schema: Any) -> Any:
    """Return a value as we write it: integers without a fraction, keys in the schema's order."""
    return _sorted(data, {name: index for index, name in enumerate(_names(schema))})


def _sorted(data: Any, order: dict[str, int]) -> Any:
    if isinstance(data, float) and data == data // 1:
        return int(data)
    if isinstance(data, list):
        return [_sorted(element, order) for element in data]
    if isinstance(data, dict):
        names = sorted(data, key=lambda name: order.get(name, len(order)))
        return {name: _sorted(data[name], order) for name in names}
    return data


def _names(schema: Any) -> dict[str, None]:
    """Return all names of properties in a schema, named ones before those that are required."""
    found: dict[str, None] = {}
    later: dict[str, None] = {}
    todo = [schema]
    for part in todo:
        if isinstance(part, list):
            todo += part
        if not isinstance(part, dict):
            continue
        properties = part.get("properties")
        found.update(dict.fromkeys(properties if isinstance(properties, dict) else ()))
        for listed in (part.get("const"), *_list(part.get("enum"))):
            found.update(dict.fromkeys(listed if isinstance(listed, dict) else ()))
        later.update(dict.fromkeys(n for n in _list(part.get("required")) if isinstance(n, str)))
        dependent = part.get("dependentRequired")
        for name, names in (dependent if isinstance(dependent, dict) else {}).items():
            later.update(dict.fromkeys([name, *names]))
        todo += part.values()
    return {**found, **later}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
