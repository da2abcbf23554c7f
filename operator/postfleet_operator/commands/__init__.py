"""One module for each command that needs more than this package's base; imported when it is called."""
