"""Pure decisions: what to expect of an arm, which one to take, what goes next."""
