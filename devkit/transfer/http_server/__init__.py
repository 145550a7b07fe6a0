"""``devkit serve``: folders over HTTP, for a browser, for curl, and for ``devkit get``.

A server of our own, because what serves files best is a thread a connection and ``sendfile``, and what a share must
refuse is easier to say in a small strict parser than to find in a large lenient one.
"""
