"""Reading a configuration: YAML, secrets, validation and error messages."""
