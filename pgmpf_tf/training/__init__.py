"""The model that `wrap` returns, and how it is pruned while it is trained."""
