"""The rollout policy: a pure state machine over what is observed.

``advance(state, facts, policy, now)`` is all a body needs: it answers with the next state, what must exist and carry
traffic, and what is worth telling. Nothing here talks to anything, and no flag is trusted that can be observed.
"""
