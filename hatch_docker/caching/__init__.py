"""A registry as a second cache behind the one on disk: what recipes make, as OCI artifacts (docs/registry-cache.md)."""
