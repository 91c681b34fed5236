"""Edits: changes of the contents of files that are members of the project's wheel as they are, and of nothing else.

The image of such a project is made again from what its stamp records, with the wheel, its layer and its bytecode
patched. It is the image that a whole build makes; whatever is not certain is left to that.
"""
