"""What runs on an engine. Imports nothing here: this loads in every process."""
