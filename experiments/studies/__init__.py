"""Questions that are answered by a table."""
