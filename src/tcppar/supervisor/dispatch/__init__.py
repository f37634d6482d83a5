"""Who takes connections: spawners, workers, their pools, and what they and their children write and leave."""
