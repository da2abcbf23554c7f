"""The commands of `postfleet`, one noun per module. They read options, call the package, and show the result."""
