"""The ways in: Hatch's target and the command line."""
