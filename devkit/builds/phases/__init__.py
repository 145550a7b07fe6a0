"""The phases of a build, a module each: ``plan`` says what it would do, ``execute`` does it."""
