"""The command `hatch-docker`, one module per subcommand."""
