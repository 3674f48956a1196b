"""Image classification under a latency budget with the MobileNetV4 family."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("mnv4serve")
except PackageNotFoundError:  # run from a checkout that was never installed
    __version__ = "0+unknown"
