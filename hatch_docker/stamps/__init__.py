"""Stamps: what a build depended on and made, so that a build without changes ends after a comparison.

`frontends` ask `stamp.replay` before anything large is imported: these modules import little.
"""
