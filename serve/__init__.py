"""The HTTP service on Ray Serve, and its web page."""
