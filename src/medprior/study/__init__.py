"""Arms x label budgets x seeds, and the verdict drawn from them."""
