"""What peers tell each other, and what each makes of it.

The only room that sees two peers at once: its functions take rectangular
``[I, J]`` arrays, receivers x senders, so a deployed agent is simply I = 1.
"""
