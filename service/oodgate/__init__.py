"""The version of oodgate."""

__version__ = "0.1.0"
