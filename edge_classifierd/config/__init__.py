"""The configuration: typed sections, the YAML loader and what is generated from them."""
