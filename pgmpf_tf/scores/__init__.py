"""What matters: criteria, contributions to the loss, sensitivity."""
