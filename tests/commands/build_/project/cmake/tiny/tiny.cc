int tiny() { return 1; }
