"""Parts of the GRPO job: configuration, data, rollouts, the policy's forward pass, the update."""
