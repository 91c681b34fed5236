"""OCI images: documents, layers, registries and archives. It knows nothing of Python packaging."""
