"""Charts of suites whose rows tell a ladder: each variant has the one below it as parent."""
