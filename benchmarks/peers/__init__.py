"""hatch-docker beside the best Dockerfiles for the same applications: `hatch run peers`. ../README.md describes it."""
