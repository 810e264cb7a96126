"""Parts of `jobs/train_fem.py`: training pairs, steps, backbones, validation."""
