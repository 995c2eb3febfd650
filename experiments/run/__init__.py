"""What makes up one run: settings, training, evaluation, files."""
