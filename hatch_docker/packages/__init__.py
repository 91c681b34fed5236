"""OS packages, put into an image by its own package manager, in a container of the engine."""
