"""What a project's CI would say of a branch, before it is pushed."""
