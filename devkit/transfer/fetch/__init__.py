"""``devkit get``: a file from any web server in parallel ranges, a file or folder from ``devkit serve`` in one stream."""
