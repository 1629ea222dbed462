"""What the network is compared with: matrix factorisation, and content models that predict it."""
