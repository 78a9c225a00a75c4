"""Where data and losses come from: reinforcement learning and supervised few-shot learning."""
