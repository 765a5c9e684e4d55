"""Charts of the suites of attention alone."""
