"""Backbone, pointers, action-token head and policy. Only `settings` may be imported without torch."""
