"""Configuration: every key with its type and bounds, defaults, parsing, validation, migrations."""
