"""A study beside the paper: its claims checked, its tables and figures set next to ours, set-ups ranked."""
