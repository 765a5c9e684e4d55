"""The generated pages and blocks, a module for each kind."""
