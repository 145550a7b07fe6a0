"""What turns the files of this room into a command line."""
