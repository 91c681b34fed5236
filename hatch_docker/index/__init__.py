"""Package indexes: settings and logins, the files of a package (PEP 503, PEP 691), and downloads."""
