"""Which rollouts are compared with which. Sees keys and arrays only."""
