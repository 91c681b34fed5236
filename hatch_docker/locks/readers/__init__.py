"""One reader per lock format; each gives a `packaging.pylock.Pylock`."""
