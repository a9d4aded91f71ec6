"""Reports of a verification: text for a person, JSON for a program, JUnit XML for a test runner. Pure."""
