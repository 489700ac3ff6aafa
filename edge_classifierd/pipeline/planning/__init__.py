"""From a configuration to the plan of each pipeline: its model, labels and rules."""
