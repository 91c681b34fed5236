"""What an OCI image is: documents, layers, registries and archives. It knows nothing of Python packaging."""
