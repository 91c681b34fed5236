"""uv's workspaces: the root above a project, and its members (uv: using workspaces)."""
