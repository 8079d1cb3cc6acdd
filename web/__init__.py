"""What people see: pages, settings and the command line. Puts the other packages together."""
