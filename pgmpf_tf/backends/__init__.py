"""What differs by Keras backend, in one small file for each; no pruning in here."""
