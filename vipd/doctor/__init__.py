"""``vipd doctor``: looks at everything that an election depends on, touches nothing, and says what to do."""
