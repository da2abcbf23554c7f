"""What goes out: templates, bodies, headers, files, signatures."""
