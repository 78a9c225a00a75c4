"""Do the work of commands: one module each, imported once the command's options are read."""
