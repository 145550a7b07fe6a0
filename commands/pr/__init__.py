"""Check out, try, rebase and push pull requests, and never lose a byte."""
