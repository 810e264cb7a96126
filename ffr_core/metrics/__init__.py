"""The metrics of the paper as pure functions. Shares of 1, never per cent."""
