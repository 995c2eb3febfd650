"""How channels flow through a Keras graph, and which of them live and die together."""
