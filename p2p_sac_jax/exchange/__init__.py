"""Messages between peers, and the guidance that each receiver computes.

The only package that handles two peers at once: its functions take rectangular
``[I, J]`` arrays, receivers x senders. A deployed agent is the case I = 1.
"""
