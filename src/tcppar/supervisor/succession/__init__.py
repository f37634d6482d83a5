"""Going on from one supervisor to the next: the books, upgrades, and taking over."""
