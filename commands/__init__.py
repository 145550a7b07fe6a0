"""The command tree: ``commands/<group>/<command>.py`` is the command ``devkit <group> <command>``."""
