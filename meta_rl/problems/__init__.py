"""The two kinds of problem: reinforcement learning and supervised few-shot learning."""
