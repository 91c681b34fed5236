"""Signs digests with the time, as a small web service."""

__version__ = "1.0.0"
