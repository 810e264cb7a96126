"""Fine-grained fragment retrieval over long, image-filled dialogues."""
