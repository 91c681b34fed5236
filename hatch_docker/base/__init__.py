"""Base images: where they come from, and which Python, C library and libraries they have."""
