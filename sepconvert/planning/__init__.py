"""Which site becomes which form at which rank, under a budget."""
