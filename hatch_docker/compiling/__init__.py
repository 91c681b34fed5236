"""Building sdists into wheels: pure ones on this machine, the others in a container of the builder."""
