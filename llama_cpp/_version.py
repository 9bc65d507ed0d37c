"""The version of this package, without a version label (PEP 440)."""

__version__ = "0.3.100"
