"""Events made visible: pure readers, which decide nothing."""
