"""The standard library's ``tarfile`` with extraction filters (PEP 706), on every Python of ours.

Python has them from 3.11.4 on; Debian 12 has 3.11.2, where a backport takes its place.
"""

from __future__ import annotations

import tarfile as _own
from typing import TYPE_CHECKING

if TYPE_CHECKING or hasattr(_own, "data_filter"):
    import tarfile
else:
    from backports import tarfile

__all__ = ["tarfile"]
