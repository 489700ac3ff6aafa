"""Documents generated from the configuration's sections: example, reference and JSON schema."""
