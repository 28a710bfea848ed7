"""What 'right' means: loss, metric and its direction, agreement."""
