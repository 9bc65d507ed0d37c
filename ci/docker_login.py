"""The logins that ``docker login`` has written, for registries that want one or limit who has none."""

from __future__ import annotations

import base64
import json
import os
from pathlib import Path

from requests.auth import HTTPBasicAuth

from ci.errors import UsageError

HUB = "docker.io"
"""Docker Hub, as images are named there."""

HUB_NAMES = frozenset({HUB, "index.docker.io", "registry-1.docker.io"})
"""What Docker Hub is called in references, configurations and addresses."""


def config_path() -> Path:
    """Return the configuration of docker's command line: below ``DOCKER_CONFIG``, else ``~/.docker``."""
    folder = os.environ.get("DOCKER_CONFIG")
    return (Path(folder) if folder else Path.home() / ".docker") / "config.json"


def find_login(registry: str) -> HTTPBasicAuth | None:
    """Return the login of a registry, or None where the configuration has none.

    Raises:
        UsageError: the configuration is malformed.
    """
    path = config_path()
    try:
        entries = json.loads(path.read_text(encoding="utf-8")).get("auths") or {}
        for key, entry in entries.items():
            host = key.removeprefix("https://").removeprefix("http://").partition("/")[0]
            if (HUB if host in HUB_NAMES else host) == registry and entry.get("auth"):
                login = base64.b64decode(entry["auth"], validate=True).decode()
                name, _, password = login.partition(":")
                return HTTPBasicAuth(name.encode(), password.encode())
    except FileNotFoundError:
        return None
    except (ValueError, AttributeError, TypeError) as error:
        raise UsageError(
            f"{path} is no configuration of docker: {error}",
            cure=f"mend it, write it anew with `docker login {registry}`, or delete it",
        ) from error
    return None
