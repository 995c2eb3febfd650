"""How pruning develops over a run: schedules, methods, presets."""
