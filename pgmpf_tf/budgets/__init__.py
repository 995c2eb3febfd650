"""What goes: selection by rate, budgets, costs, and the search."""
