"""The tool side of ``devkit train``: plan, launch and watch the ranks, and keep what they tell."""
