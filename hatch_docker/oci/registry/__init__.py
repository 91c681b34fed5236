"""The registry client (OCI distribution specification)."""
