"""The supervisor: waits, accepts, admits, hands over, keeps house. One loop, no threads, no user code."""
