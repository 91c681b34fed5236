"""OS packages as one layer of an image, installed by an engine; and which package has a header or library."""
