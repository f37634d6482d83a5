"""What becomes of a connection: the table of all of them, and every way in which one is ended."""
