"""The container engine through the Docker SDK. Podman's socket has the same API."""
