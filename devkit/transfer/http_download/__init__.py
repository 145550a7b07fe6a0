"""``devkit get``: a file from any web server in parallel ranges, a folder from ``devkit serve`` in one stream."""
