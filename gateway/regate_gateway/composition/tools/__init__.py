"""What tools that run here reach, each a module."""
