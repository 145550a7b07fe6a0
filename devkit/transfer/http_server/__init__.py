"""``devkit serve``: folders over HTTP, for a browser, for curl, and for ``devkit get``; aiohttp speaks the protocol."""
