"""What the training jobs share: launching, checkpoints, logs, batches, weighted gradients."""
