"""Charts of attribution: what each optimization is worth, whatever the order."""
