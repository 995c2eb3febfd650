"""What goes: by rate, budgets, costs, and the search."""
