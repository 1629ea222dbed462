"""Tag lists to vectors, and vectors to classes (paper sections 3.1.1, 3.1.2 and 5.1)."""
