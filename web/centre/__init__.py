"""The centre's HTTP over `schedule`: signing in, the JSON API, and its pages."""
