"""The child's side of a connection: what it is given."""
