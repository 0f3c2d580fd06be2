"""What crops come from and go to, one file a format, reading and writing in it.

`registry` knows them all; `build` is the one way from what a file states to a crop
table.
"""
