"""``latentry profile`` and ``latentry drift``: profiles from data given later, verdicts and prices offline.

``cli`` imports what a command needs when it runs; the rest needs latentry[bundle].
"""
