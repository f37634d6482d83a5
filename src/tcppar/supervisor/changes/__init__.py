"""What changes while the server serves: a start, a reload, a stop, and who asks for them."""
