"""Build Paddle from source, explain what breaks a build, and spare the builds that are not needed."""
