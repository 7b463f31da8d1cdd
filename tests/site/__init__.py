"""The built site, page by page in a browser."""
