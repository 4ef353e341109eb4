"""What every package stands on: records as JSON, and text as lines."""
