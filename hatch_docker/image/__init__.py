"""From prepared wheels to an image: layers, config, report, outputs."""
