"""The spawner: a process that enters its service's user and limits once, then makes a child for each connection."""
